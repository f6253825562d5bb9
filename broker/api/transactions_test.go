package api_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/belfry-mq/belfry/broker/brokertest"
)

// releases are how clients before and after KIP-890 go about transactions.
func releases() map[string]kgo.Opt {
	return map[string]kgo.Opt{
		"newest": kgo.MaxVersions(kversion.Stable()), "3.6": kgo.MaxVersions(kversion.V3_6_0()),
		"2.3": kgo.MaxVersions(kversion.V2_3_0()), "0.11": kgo.MaxVersions(kversion.V0_11_0()),
	}
}

// committedValues reads a topic as read_committed and read_uncommitted consumers see it, up
// to its end.
func committedValues(t *testing.T, node *brokertest.Broker, topic string, isolation kgo.IsolationLevel, n int) []string {
	t.Helper()
	cl := dial(t, node, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(isolation))
	defer cl.Close()
	var values []string
	for _, r := range drain(t, cl, n) {
		values = append(values, string(r.Value))
	}
	slices.Sort(values)
	return values
}

func open(t *testing.T, cl *kgo.Client) {
	t.Helper()
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
}

func finish(t *testing.T, cl *kgo.Client, how kgo.TransactionEndTry) {
	t.Helper()
	if err := cl.EndTransaction(within(t), how); err != nil {
		t.Fatal(err)
	}
}

// TestCommitAndAbort has transactions end this way and that, with clients of several releases.
func TestCommitAndAbort(t *testing.T) {
	node := brokertest.Start(t)
	for name, release := range releases() {
		t.Run(name, func(t *testing.T) {
			topic := "ends-" + name
			create(t, dial(t, node), topic, 3, nil)
			cl := dial(t, node, release, kgo.TransactionalID("tx-"+name), kgo.RecordPartitioner(kgo.ManualPartitioner()))
			var want, all []string
			for i := range 20 {
				open(t, cl)
				var rs []*kgo.Record
				for p := range int32(3) {
					v := fmt.Sprintf("%02d-%d", i, p)
					rs = append(rs, &kgo.Record{Topic: topic, Partition: p, Value: []byte(v)})
					all = append(all, v)
					if i%3 != 0 {
						want = append(want, v)
					}
				}
				send(t, cl, rs...)
				finish(t, cl, i%3 != 0)
			}
			slices.Sort(want)
			slices.Sort(all)
			if got := committedValues(t, node, topic, kgo.ReadCommitted(), len(want)); !slices.Equal(got, want) {
				t.Errorf("read_committed gives\n%v\nwant\n%v", got, want)
			}
			if got := committedValues(t, node, topic, kgo.ReadUncommitted(), len(all)); !slices.Equal(got, all) {
				t.Errorf("read_uncommitted gives\n%v\nwant\n%v", got, all)
			}
		})
	}
}

// TestReleases has instances of older versions serve transactions as these releases did.
func TestReleases(t *testing.T) {
	for _, version := range []string{"1.1.0", "2.3.0", "2.7"} {
		t.Run(version, func(t *testing.T) {
			node := brokertest.Start(t, brokertest.Set(map[string]string{"version": version}))
			create(t, dial(t, node), "t", 1, nil)
			cl := dial(t, node, kgo.TransactionalID("tx"))
			for _, how := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit} {
				open(t, cl)
				send(t, cl, &kgo.Record{Topic: "t", Value: []byte(fmt.Sprint(how))})
				finish(t, cl, how)
			}
			if got := committedValues(t, node, "t", kgo.ReadCommitted(), 2); !slices.Equal(got, []string{"true", "true"}) {
				t.Errorf("committed is %v", got)
			}
		})
	}
}

// TestZombieIsFenced has a second producer take a transactional ID over.
func TestZombieIsFenced(t *testing.T) {
	node := brokertest.Start(t)
	for name, release := range releases() {
		t.Run(name, func(t *testing.T) {
			topic := "zombie-" + name
			create(t, dial(t, node), topic, 1, nil)
			old := dial(t, node, release, kgo.TransactionalID(topic))
			open(t, old)
			send(t, old, &kgo.Record{Topic: topic, Value: []byte("zombie")})
			young := dial(t, node, release, kgo.TransactionalID(topic))
			open(t, young)
			send(t, young, &kgo.Record{Topic: topic, Value: []byte("young")})
			finish(t, young, kgo.TryCommit)
			err := old.ProduceSync(within(t), &kgo.Record{Topic: topic, Value: []byte("again")}).FirstErr()
			if err == nil {
				err = old.EndTransaction(within(t), kgo.TryCommit)
			}
			if !errors.Is(err, kerr.ProducerFenced) && !errors.Is(err, kerr.InvalidProducerEpoch) {
				t.Errorf("the zombie hears %v", err)
			}
			if got := committedValues(t, node, topic, kgo.ReadCommitted(), 1); !slices.Equal(got, []string{"young"}) {
				t.Errorf("committed is %v", got)
			}
		})
	}
}

// TestTimeoutAborts has a producer fall silent.
func TestTimeoutAborts(t *testing.T) {
	node := brokertest.Start(t, brokertest.Set(map[string]string{"transaction.abort.timed.out.transaction.cleanup.interval.ms": "20"}))
	create(t, dial(t, node), "silent", 1, nil)
	cl := dial(t, node, kgo.TransactionalID("silent"), kgo.TransactionTimeout(300*time.Millisecond))
	open(t, cl)
	send(t, cl, &kgo.Record{Topic: "silent", Value: []byte("lost")})
	adm := kadm.NewClient(dial(t, node))
	brokertest.Eventually(t, "the transaction is aborted", func() bool {
		txns, err := adm.DescribeTransactions(within(t), "silent")
		return err == nil && txns["silent"].State == "CompleteAbort"
	})
	send(t, dial(t, node), &kgo.Record{Topic: "silent", Value: []byte("after")})
	if got := committedValues(t, node, "silent", kgo.ReadCommitted(), 1); !slices.Equal(got, []string{"after"}) {
		t.Errorf("committed is %v", got)
	}
	if err := cl.EndTransaction(within(t), kgo.TryCommit); err == nil {
		t.Error("a transaction that timed out can be committed")
	}
}

// TestExactlyOnce copies a topic in transactions, offsets included, while members of the
// group come and go and a third of the transactions are aborted: every record arrives once.
func TestExactlyOnce(t *testing.T) {
	node := brokertest.Start(t)
	cl := dial(t, node, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	create(t, cl, "in", 4, nil)
	create(t, cl, "out", 4, nil)
	const records = 400
	for i := range records {
		cl.Produce(context.Background(), &kgo.Record{Topic: "in", Partition: int32(i % 4), Value: fmt.Appendf(nil, "%04d", i)}, nil)
	}
	if err := cl.Flush(within(t)); err != nil {
		t.Fatal(err)
	}
	for round := range 4 {
		copySome(t, node, fmt.Sprint("copier-", round%2), 100)
	}
	got := committedValues(t, node, "out", kgo.ReadCommitted(), records)
	for i, v := range got {
		if v != fmt.Sprintf("%04d", i) {
			t.Fatalf("record %d is %s: something is missing or there twice", i, v)
		}
	}
	brokertest.Eventually(t, "the group has no lag", func() bool { // markers follow the answer
		lag, err := kadm.NewClient(cl).Lag(within(t), "copiers")
		return err == nil && lag["copiers"].Lag.Total() == 0
	})
}

// copySome is one copier: it copies at least n records and leaves; every third of its
// transactions is aborted.
func copySome(t *testing.T, node *brokertest.Broker, id string, n int) {
	t.Helper()
	s, err := kgo.NewGroupTransactSession(kgo.SeedBrokers(node.Addr()), kgo.TransactionalID(id),
		kgo.ConsumerGroup("copiers"), kgo.ConsumeTopics("in"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.RequireStableFetchOffsets())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	copied := 0
	for round := 0; copied < n; round++ {
		fs := s.PollRecords(within(t), 10)
		if errs := fs.Errors(); len(errs) > 0 {
			t.Fatal(errs)
		}
		if err := s.Begin(); err != nil {
			t.Fatal(err)
		}
		fs.EachRecord(func(r *kgo.Record) {
			s.Produce(context.Background(), &kgo.Record{Topic: "out", Value: r.Value}, func(_ *kgo.Record, err error) {
				if err != nil && !errors.Is(err, kgo.ErrAborting) { // what is aborted need not leave the client
					t.Error(err)
				}
			})
		})
		done, err := s.End(within(t), round%3 != 1)
		if err != nil {
			t.Fatal(err)
		}
		if done {
			copied += fs.NumRecords()
		}
	}
}

// TestRestartWhileCommitting stops the node right behind the answer to a commit, before the
// markers or among them, cleanly and as by a crash: what was answered is committed.
func TestRestartWhileCommitting(t *testing.T) {
	node := brokertest.Start(t)
	admin := dial(t, node)
	create(t, admin, "kept", 8, nil)
	var want []string
	for i := range 6 {
		cl := dial(t, node, kgo.TransactionalID("restarts"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		open(t, cl)
		var rs []*kgo.Record
		for p := range int32(8) {
			v := fmt.Sprintf("%d-%d", i, p)
			rs = append(rs, &kgo.Record{Topic: "kept", Partition: p, Value: []byte(v)})
			if i%3 != 2 {
				want = append(want, v)
			}
		}
		send(t, cl, rs...)
		finish(t, cl, i%3 != 2)
		node.Restart(func() {
			if i%2 == 1 {
				node.ForgetCleanShutdown()
			}
		}, nil)
		cl.Close()
		adm := kadm.NewClient(admin)
		brokertest.Eventually(t, "the transaction is complete", func() bool {
			txns, err := adm.DescribeTransactions(within(t), "restarts")
			return err == nil && strings.HasPrefix(txns["restarts"].State, "Complete")
		})
	}
	slices.Sort(want)
	if got := committedValues(t, node, "kept", kgo.ReadCommitted(), len(want)); !slices.Equal(got, want) {
		t.Errorf("committed is\n%v\nwant\n%v", got, want)
	}
}
