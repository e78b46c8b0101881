-- Which country each network is of, for the column country of the views. `python -m consumer countries` fills it from files,
-- and makes the dictionary `countries` over it.
CREATE TABLE IF NOT EXISTS networks
(
    network String                 COMMENT 'the network, such as 192.0.2.0/24',
    country LowCardinality(String) COMMENT 'ISO 3166 in two letters'
)
ENGINE = MergeTree
ORDER BY network
COMMENT 'which country each network is of; python -m consumer countries fills it';
