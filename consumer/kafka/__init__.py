"""Kafka: reading, committing, dead letters, admin calls. Only `operations.group` imports confluent_kafka besides.

How librdkafka and Apache Kafka 4.1 behave (each is stated by a test in tests/integration/test_consumer_kafka*.py):

- A synchronous commit waits as long as its broker is away, even beyond max.poll.interval.ms; so commits are
  asynchronous, and a poll returns the answer. If one partition of a commit is refused, all get its error; so each
  partition is committed separately.
- A rebalance continues only while no commit is in progress; so commits are sent in rounds, see commits.py.
- An expelled member's commits are refused (UNKNOWN_MEMBER_ID). It does not rejoin before it hears that its partitions
  are lost, or revoked if a rebalance had begun before. Valid members also get ILLEGAL_GENERATION (cooperative) and
  STALE_MEMBER_EPOCH (KIP-848) while a rebalance leaves them their partitions: these commits are retried.
- A pause outlives the assignment: a partition that is assigned again is still paused.
- After an offset out of range a partition accepts no seek; giving it up and rejoining helps.
- An assigned position is used unchecked. Only a seek with a leader epoch asks the leader whether its log still has the
  record before it (KIP-320), and so does a new leader epoch while reading. If not, the error is `_AUTO_OFFSET_RESET`,
  as for an offset out of range; only the text has the reason.
- A classic member that gets no partition is told so; a KIP-848 member is not.
- A late answer about a partition's end, asked for before a seek, moves the partition there after the seek.
- When a topic is deleted and recreated at once, classic members are not told and continue in the new one; a KIP-848
  member loses the old topic and is assigned the new one. The group's commits vanish with the old topic.
- refusals.py says what a lost permission does.
- One call that consumes may give partitions up and get them again; what earlier calls returned is then of the old
  assignment.
- Closing waits for commits in progress as long as their broker is away.
- A client that was told of no broker may know none any more, and asks nobody: see connectivity.py.
"""
