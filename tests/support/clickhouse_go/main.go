// Asks a query once at each address, native=host:port or http=host:port, with lz4 on the wire, as the account default.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
)

func main() {
	for _, argument := range os.Args[2:] {
		protocol, address, _ := strings.Cut(argument, "=")
		options := clickhouse.Options{
			Addr:        []string{address},
			Compression: &clickhouse.Compression{Method: clickhouse.CompressionLZ4},
		}
		if protocol == "http" {
			options.Protocol = clickhouse.HTTP
		}
		connection, err := clickhouse.Open(&options)
		if err != nil {
			panic(err)
		}
		var sum uint64
		var text string
		if err := connection.QueryRow(context.Background(), os.Args[1]).Scan(&sum, &text); err != nil {
			panic(err)
		}
		fmt.Println(sum, text)
	}
}
