// Package compat holds the tests of unchanged clients and tools against a real node:
// Apache Kafka's own command-line tools, kcat, and the client libraries of many languages and ages.
// It has no code of its own.
//
// # Client programs
//
// A folder clients/DRIVER holds one program for one client library. Its file table lists the
// releases to run: version, short or long form, name, and the features that the release does not
// have, parted by tabs. Two executables belong to it:
//
//   - setup CACHE VERSION installs that release into CACHE/clients/DRIVER-VERSION and does nothing
//     where it is there and its inputs are unchanged.
//   - run CACHE VERSION BOOTSTRAP OLD_BOOTSTRAP PREFIX tries each feature once and prints a line
//     for each: its name, ok or fail or none, and why, parted by tabs. BOOTSTRAP is a node that
//     offers all it can, OLD_BOOTSTRAP one with `version: 1.1.0`; names of topics and groups begin
//     with PREFIX.
//
// The folder clients/features holds what the programs and setups of one language share; a Go
// program is a module of its own, which no other part of the tree is built with.
//
// Against three brokers BOOTSTRAP is one node of a cluster and OLD_BOOTSTRAP one of another; the environment holds
// BELFRY_REPLICAS, the number of replicas that new topics get, and BELFRY_FAULTS, an address: asking it by GET for
// /kill ends the leader of the topic PREFIXfailover, which is not the node of BOOTSTRAP; /restart is answered once
// that node is in sync again. As with Apache Kafka a node may hear of a new or deleted topic a moment after the client
// has its answer: /known/TOPIC and /gone/TOPIC are answered once all have. Without BELFRY_FAULTS the feature failover is
// left out.
//
// A fail, a missing line, a none that the table does not allow, and an error or a panic in the
// nodes' output fail the test.
//
// # Features
//
//   - create-topic: by the library's admin client; the number of partitions is as asked for.
//   - produce-none, -gzip, -snappy, -lz4, -zstd: 100 messages with that codec, read back equal.
//   - idempotent: an idempotent producer's messages arrive once and in order.
//   - transactions: a copy and its offsets are committed, a transaction is aborted, another committed; readers of
//     committed messages see the right ones; a producer whose name another one has taken is refused.
//   - group-eager, -cooperative, -static, -new-protocol: two members share all partitions, each
//     message is seen once, one leaves, the other takes over.
//   - commit-resume: who comes after goes on behind the committed offset.
//   - seek-by-time: the offset of the first message at or after a time is found.
//   - headers: keys and values come back equal and in order.
//   - tombstone: a null value into a compacted topic comes back as null.
//   - large-message: 9 MiB come back whole; 11 MiB are refused with a clear error.
//   - wrong-topic: an illegal name gives a clear error, and nothing hangs.
//   - unknown-version: create, produce and consume against OLD_BOOTSTRAP.
//   - failover: a producer and a member of a group are at work when the leader is killed, and when it is back; each
//     message arrives, and where the client has idempotence once and in order.
//
// # Kafka's tools, Streams, Connect
//
// TestKafkaTools runs the scripts of Kafka's bin folder, of three releases: each check calls the
// scripts' main classes in one Java machine a release (java/ToolRunner.java; each call has streams,
// exit code and static variables of its own) and compares what they print. TestKafkaToolsOnThreeBrokers runs them
// against a cluster whose nodes are killed and started again on the way. TestStreams and
// TestConnect run programs on top of Kafka. With BELFRY_COMPAT_PEER=HOST:PORT the checks of the
// tools go against that server instead of a node: what Apache Kafka fails too asks too much.
//
// # The client projects' own tests
//
// A folder suites/NAME runs the tests that a client project publishes, unchanged, in the long form only. Its file suite
// gives the title, the node's settings and, where the tests take an address for granted, that address; its file
// expected lists the cases that do not pass, fail or skip, with the reason, its file expected3, where there is one,
// those that do not pass with three brokers. Two executables belong to it: setup CACHE
// fetches and builds below CACHE/suites/NAME; run CACHE BOOTSTRAP, with BELFRY_REPLICAS in the environment, prints a line for each case: its name, ok or fail or
// skip, and why. A case that fails or is skipped and is not on the list, and one that is on the list and passes, fail
// the test. What package managers do not carry is run by hand and kept in page/suites with the reason (suites/kafkajs).
// Not among them: aiokafka's tests, which neither its package nor its source package carries, and sarama's
// functional ones, which take five brokers behind a proxy that they command.
//
// The long form writes COMPATIBILITY.md, assembled from the parts in the folder page.
package compat
