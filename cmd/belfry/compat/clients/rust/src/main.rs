//! Tries every feature of the compat table with rskafka.
//!
//! usage: belfry-rskafka BOOTSTRAP OLD_BOOTSTRAP PREFIX
use std::collections::{BTreeMap, HashSet};
use std::error::Error;
use std::future::Future;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use rskafka::client::partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::{Record, RecordAndOffset};

/// The longest that one feature may take.
const LIMIT: Duration = Duration::from_secs(40);

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Fails unless both are the same.
fn equal<T: PartialEq + std::fmt::Debug>(got: T, want: T, what: &str) -> Outcome {
    if got == want {
        return Ok(());
    }
    let shown: String = format!("{what}: got {got:?}, want {want:?}").chars().take(400).collect();
    Err(shown.into())
}

/// Fails unless the call was refused with an error that says so; a client that tries again for ever is late.
async fn refused<T>(call: impl Future<Output = Outcome<T>>, part: &str, what: &str) -> Outcome {
    match tokio::time::timeout(Duration::from_secs(10), call).await {
        Err(_) => Err(format!("{what}: no answer").into()),
        Ok(Ok(_)) => Err(format!("{what}: not refused").into()),
        Ok(Err(e)) if format!("{e} {e:?}").contains(part) => Ok(()),
        Ok(Err(e)) => Err(format!("{what}: refused with {e:?}, want {part}").into()),
    }
}

/// A record without headers.
fn record(key: Option<&[u8]>, value: Option<Vec<u8>>, timestamp: DateTime<Utc>) -> Record {
    Record { key: key.map(Into::into), value, headers: BTreeMap::new(), timestamp }
}

/// n records whose values compress well and differ.
fn records(n: usize, name: &str) -> Vec<Record> {
    let now = Utc::now().trunc_subsecs(3);
    let value = |i| format!("{name} {i} {}", "abcdefgh".repeat(40)).into_bytes();
    (0..n).map(|i| record(Some(format!("{name}-{i}").as_bytes()), Some(value(i)), now)).collect()
}

/// Names of topics and how to reach a node.
struct Driver {
    bootstrap: String,
    prefix: String,
}

impl Driver {
    async fn client(&self) -> Outcome<Client> {
        Ok(ClientBuilder::new(vec![self.bootstrap.clone()]).build().await?)
    }

    async fn create(&self, topic: &str, partitions: i32) -> Outcome {
        self.client().await?.controller_client()?.create_topic(topic, partitions, replicas(), 5_000).await?;
        heard("known", topic).await
    }

    /// Opens partition 0 of a topic that there may not be.
    async fn open(&self, topic: &str) -> Outcome<PartitionClient> {
        Ok(self.client().await?.partition_client(topic, 0, UnknownTopicHandling::Error).await?)
    }

    /// Creates a topic of one partition and opens it.
    async fn topic(&self, name: &str) -> Outcome<PartitionClient> {
        let full = self.prefix.clone() + name;
        self.create(&full, 1).await?;
        self.open(&full).await
    }

    async fn partitions(&self, topic: &str) -> Outcome<Option<Vec<i32>>> {
        let all = self.client().await?.list_topics().await?;
        Ok(all.into_iter().find(|t| t.name == topic).map(|t| t.partitions.into_iter().collect()))
    }

    async fn create_topic(&self) -> Outcome {
        let name = self.prefix.clone() + "create";
        self.create(&name, 3).await?;
        refused(self.create(&name, 3), "TopicAlreadyExists", "second creation").await?;
        equal(self.partitions(&name).await?, Some(vec![0, 1, 2]), "partitions")?;
        self.client().await?.controller_client()?.delete_topic(&name, 5_000).await?;
        heard("gone", &name).await?;
        equal(self.partitions(&name).await?, None, "partitions after the deletion")
    }

    async fn codec(&self, name: &str, codec: Compression) -> Outcome {
        let p = self.topic(&format!("codec-{name}")).await?;
        round_trip(&p, records(100, name), codec).await
    }

    async fn seek_by_time(&self) -> Outcome {
        let p = self.topic("time").await?;
        let base = Utc::now().trunc_subsecs(3) - TimeDelta::seconds(100);
        for i in 0..10 {
            let at = base + TimeDelta::seconds(i);
            p.produce(vec![record(None, Some(format!("t{i}").into_bytes()), at)], Compression::NoCompression).await?;
        }
        let offset = p.get_offset(OffsetAt::Timestamp(base + TimeDelta::milliseconds(4500))).await?;
        equal(offset, 5, "offset by time")?;
        let (got, _) = p.fetch_records(offset, 1..1 << 20, 1000).await?;
        let first = &got.first().ok_or("nothing read")?.record;
        equal(first.value.as_deref(), Some(b"t5".as_slice()), "message")?;
        equal(first.timestamp, base + TimeDelta::seconds(5), "its time")
    }

    async fn headers(&self) -> Outcome {
        let p = self.topic("headers").await?;
        let mut one = record(None, Some(b"v".to_vec()), Utc::now().trunc_subsecs(3));
        one.headers.insert("text".into(), b"text".to_vec());
        one.headers.insert("binary".into(), vec![0, 255, 128]);
        one.headers.insert("empty".into(), vec![]);
        round_trip(&p, vec![one], Compression::NoCompression).await
    }

    async fn tombstone(&self) -> Outcome {
        let p = self.topic("tombstone").await?;
        let now = Utc::now().trunc_subsecs(3);
        let values = [Some(b"v".to_vec()), None, Some(vec![])];
        round_trip(&p, values.map(|v| record(Some(b"k"), v, now)).to_vec(), Compression::NoCompression).await
    }

    async fn large_message(&self) -> Outcome {
        let p = self.topic("large").await?;
        let large = |mib: usize| vec![record(None, Some(vec![mib as u8; mib << 20]), Utc::now().trunc_subsecs(3))];
        round_trip(&p, large(9), Compression::NoCompression).await?;
        let call = async { Ok(p.produce(large(11), Compression::NoCompression).await?) };
        refused(call, "MessageTooLarge", "11 MiB").await
    }

    async fn wrong_topic(&self) -> Outcome {
        let bad = self.prefix.clone() + " no/topic";
        refused(self.create(&bad, 1), "InvalidTopicException", "creation").await?;
        refused(self.produce_one(&bad), "InvalidTopicException", "produce to a bad name").await?;
        refused(self.produce_one(&(self.prefix.clone() + "missing")), "UnknownTopicOrPartition", "produce to a missing topic").await
    }

    async fn produce_one(&self, topic: &str) -> Outcome<Vec<i64>> {
        Ok(self.open(topic).await?.produce(records(1, "one"), Compression::NoCompression).await?)
    }

    /// The leader of a partition is killed and started again: each value arrives, one may come again.
    async fn failover(&self, faults: &str) -> Outcome {
        let p = self.open(&(self.prefix.clone() + "failover")).await?; // the test has made it
        let (mut sent, mut got, mut next) = (HashSet::new(), HashSet::new(), 0);
        for (fault, name) in [("", "before"), ("kill", "without it"), ("restart", "after")] {
            if !fault.is_empty() {
                ask(faults, fault).await?;
            }
            for i in 0..50 {
                let value = format!("{name} {i}").into_bytes();
                sent.insert(value.clone());
                p.produce(vec![record(None, Some(value), Utc::now().trunc_subsecs(3))], Compression::NoCompression).await?;
            }
            while !sent.is_subset(&got) {
                let (some, _) = p.fetch_records(next, 1..1 << 20, 200).await?;
                for r in some {
                    next = r.offset + 1;
                    got.extend(r.record.value);
                }
            }
        }
        Ok(())
    }

    async fn unknown_version(&self) -> Outcome {
        let p = self.topic("old").await?;
        round_trip(&p, records(20, "old"), Compression::NoCompression).await
    }
}

/// Replicas of a new topic.
fn replicas() -> i16 {
    std::env::var("BELFRY_REPLICAS").map_or(1, |n| n.parse().expect("BELFRY_REPLICAS is a number"))
}

/// Waits until every node has heard of a new topic ("known") or of its deletion ("gone").
async fn heard(what: &str, topic: &str) -> Outcome {
    match std::env::var("BELFRY_FAULTS") {
        Ok(faults) => ask(&faults, &format!("{what}/{topic}")).await,
        Err(_) => Ok(()),
    }
}

/// Asks for a fault and waits until it is done.
async fn ask(faults: &str, fault: &str) -> Outcome {
    let address = faults.trim_start_matches("http://").to_owned();
    let request = format!("GET /{fault} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    let answer = tokio::task::spawn_blocking(move || -> std::io::Result<String> {
        let mut stream = std::net::TcpStream::connect(address)?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    });
    let answer = answer.await??;
    equal(answer.split_whitespace().nth(1), Some("200"), "answer to a fault")
}

/// Sends records to an empty partition and compares what comes back.
async fn round_trip(p: &PartitionClient, sent: Vec<Record>, codec: Compression) -> Outcome {
    let offsets = p.produce(sent.clone(), codec).await?;
    equal(offsets, (0..sent.len() as i64).collect(), "offsets")?;
    let mut got: Vec<RecordAndOffset> = vec![];
    while got.len() < sent.len() {
        let (some, _) = p.fetch_records(got.len() as i64, 1..32 << 20, 1000).await?;
        got.extend(some);
    }
    equal(got.into_iter().map(|r| r.record).collect(), sent, "records")
}

/// Runs one feature and prints its line.
async fn feature(name: &str, attempt: impl Future<Output = Outcome>) {
    let began = Instant::now();
    let outcome = match tokio::time::timeout(LIMIT, attempt).await {
        Ok(o) => o,
        Err(_) => Err(format!("not done after {LIMIT:?}").into()),
    };
    match outcome {
        Ok(()) => println!("{name}\tok\t"),
        Err(e) => println!("{name}\tfail\t{}", e.to_string().split_whitespace().collect::<Vec<_>>().join(" ")),
    }
    eprintln!("{name}: {:?}", began.elapsed());
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [bootstrap, old_bootstrap, prefix] = args.try_into().expect("usage: belfry-rskafka BOOTSTRAP OLD_BOOTSTRAP PREFIX");
    let d = Driver { bootstrap, prefix: prefix.clone() };
    let old = Driver { bootstrap: old_bootstrap, prefix };
    feature("create-topic", d.create_topic()).await;
    feature("produce-none", d.codec("none", Compression::NoCompression)).await;
    feature("produce-gzip", d.codec("gzip", Compression::Gzip)).await;
    feature("produce-snappy", d.codec("snappy", Compression::Snappy)).await;
    feature("produce-lz4", d.codec("lz4", Compression::Lz4)).await;
    feature("produce-zstd", d.codec("zstd", Compression::Zstd)).await;
    println!("transactions\tnone\trskafka sends no producer ID and has no transactions");
    println!("idempotent\tnone\trskafka sends no producer ID and no sequence numbers");
    for name in ["group-eager", "group-cooperative", "group-static", "group-new-protocol", "commit-resume"] {
        println!("{name}\tnone\trskafka has no consumer groups and no committed offsets");
    }
    feature("seek-by-time", d.seek_by_time()).await;
    feature("headers", d.headers()).await;
    feature("tombstone", d.tombstone()).await;
    feature("large-message", d.large_message()).await;
    feature("wrong-topic", d.wrong_topic()).await;
    feature("unknown-version", old.unknown_version()).await;
    if let Ok(faults) = std::env::var("BELFRY_FAULTS") {
        feature("failover", d.failover(&faults)).await;
    }
}
