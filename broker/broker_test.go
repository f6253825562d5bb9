package broker_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"go.uber.org/goleak"

	"github.com/belfry-mq/belfry/broker"
	"github.com/belfry-mq/belfry/broker/brokertest"
	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/quorum"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// settings gives a node's settings over what tests want.
func settings(t *testing.T, over map[string]string) *config.Values {
	t.Helper()
	all := map[string]string{"listeners": "PLAINTEXT://127.0.0.1:0", "storage.reserve.bytes": "0"}
	for k, v := range over {
		all[k] = v
	}
	values, err := config.Defaults().With(all)
	if err != nil {
		t.Fatal(err)
	}
	return values
}

// TestStartErrors: what keeps a node from starting is said in one line with a remedy.
func TestStartErrors(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	used := brokertest.Start(t)
	tests := []struct {
		name string
		over map[string]string
		dirs []string
		want []string
	}{
		{"port taken", map[string]string{"listeners": "PLAINTEXT://" + taken.Addr().String()}, nil, []string{taken.Addr().String(), "another program"}},
		{"no such address", map[string]string{"listeners": "PLAINTEXT://192.0.2.1:9092"}, nil, []string{"192.0.2.1:9092", "does not have the address"}},
		{"unknown listener", map[string]string{"listeners": "SASL://127.0.0.1:0"}, nil, []string{"SASL", "no SASL yet"}},
		{"odd listener", map[string]string{"listeners": "IN-SIDE://127.0.0.1:0"}, nil, []string{"IN-SIDE", "PLAINTEXT, PUBLIC or INTERNAL"}},
		{"no such inter-broker listener", map[string]string{"inter.broker.listener.name": "INTERNAL"}, nil, []string{"INTERNAL", "inter.broker.listener.name", "PLAINTEXT"}},
		{"malformed listener", map[string]string{"listeners": "127.0.0.1:9092"}, nil, []string{"://", "PLAINTEXT://127.0.0.1:9092"}},
		{"bad port", map[string]string{"listeners": "PLAINTEXT://127.0.0.1:99999"}, nil, []string{"65535"}},
		{"listener twice", map[string]string{"listeners": "PLAINTEXT://127.0.0.1:0,PLAINTEXT://127.0.0.1:1"}, nil, []string{"twice"}},
		{"advertised unknown", map[string]string{"advertised.listeners": "PUBLIC://example.org:9094"}, nil, []string{"PUBLIC"}},
		{"directory is a file", nil, []string{file}, []string{file}},
		{"directory in use", nil, []string{used.DataDir()}, []string{used.DataDir()}},
		{"directory twice", nil, []string{"a", "./a"}, []string{"more than once"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dirs := tt.dirs
			if dirs == nil {
				dirs = []string{t.TempDir()}
			}
			b, err := broker.New(broker.Options{Values: settings(t, tt.over), Dirs: dirs, Logger: slog.New(slog.DiscardHandler)})
			if err == nil {
				err = b.Run(context.Background())
			}
			if err == nil {
				t.Fatal("the node ran")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error has several lines: %q", err)
			}
		})
	}
}

// TestVersionIsFixed: the instance's Kafka version cannot change once it is made.
func TestVersionIsFixed(t *testing.T) {
	node := brokertest.Start(t, brokertest.Set(map[string]string{"version": "2.7"}))
	node.Stop()
	b, err := broker.New(broker.Options{Values: settings(t, map[string]string{"version": "2.3.0"}), Dirs: []string{node.DataDir()}})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "2.7") || !strings.Contains(err.Error(), "2.3.0") {
		t.Errorf("another version gives %v, want a refusal that names both", err)
	}
	node.Restart(nil, nil)
}

// TestReady follows a node from before its start to after its end.
func TestReady(t *testing.T) {
	b, err := broker.New(broker.Options{Values: settings(t, nil), Dirs: []string{t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	if ready, why := b.Ready(); ready || len(why) != 1 || why[0] != "not started" {
		t.Errorf("before the start: %v %v", ready, why)
	}
	if _, err := b.FreeOldest(context.Background(), 1); err == nil {
		t.Error("a broker that does not run freed space")
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	brokertest.Eventually(t, "the node is ready", func() bool { ready, _ := b.Ready(); return ready })
	if b.ClusterID() == "" || b.Addr("PLAINTEXT") == nil || len(b.Dirs()) != 1 || b.Addr("PUBLIC") != nil {
		t.Errorf("cluster %q at %v with directories %v", b.ClusterID(), b.Addr("PLAINTEXT"), b.Dirs())
	}
	if freed, err := b.FreeOldest(ctx, 1); err != nil || freed != 0 {
		t.Errorf("an empty node freed %d bytes: %v", freed, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("the node ended with %v", err)
	}
	if ready, why := b.Ready(); ready || why[0] != "stopped" || b.Addr("PLAINTEXT") != nil {
		t.Errorf("after the end: %v %v", ready, why)
	}
}

// TestStopWhileStarting: a wish to stop that comes at once is no error.
func TestStopWhileStarting(t *testing.T) {
	b, err := broker.New(broker.Options{Values: settings(t, nil), Dirs: []string{t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := b.Run(ctx); err != nil {
		t.Errorf("ended with %v", err)
	}
}

// TestTwoListeners: each client is told the address of the door it came by.
func TestTwoListeners(t *testing.T) {
	b, err := broker.New(broker.Options{Values: settings(t, map[string]string{
		"listeners":            "PLAINTEXT://127.0.0.1:0,PUBLIC://127.0.0.1:0",
		"advertised.listeners": "PUBLIC://public.example.org:9094",
	}), Dirs: []string{t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the node ended with %v", err)
		}
	}()
	brokertest.Eventually(t, "the node is ready", func() bool { ready, _ := b.Ready(); return ready })
	for listener, want := range map[string]string{"PLAINTEXT": b.Addr("PLAINTEXT").String(), "PUBLIC": "public.example.org:9094"} {
		if got := advertised(t, b.Addr(listener).String()); got != want {
			t.Errorf("through %s clients are sent to %s, want %s", listener, got, want)
		}
	}
}

// TestLostMetadata: logs without their metadata are never taken for those of deleted
// topics (R25).
func TestLostMetadata(t *testing.T) {
	node := brokertest.Start(t)
	cl := producer(t, node.Addr())
	if _, err := kadm.NewClient(cl).CreateTopic(soon(t), 1, 1, nil, "precious"); err != nil {
		t.Fatal(err)
	}
	if err := produce(t, cl, "precious", 10); err != nil {
		t.Fatal(err)
	}
	node.Stop()
	lost := filepath.Join(node.DataDir(), quorum.DirName)
	if err := os.Rename(lost, lost+".away"); err != nil {
		t.Fatal(err)
	}
	for try := range 2 {
		b, err := broker.New(broker.Options{Values: settings(t, nil), Dirs: []string{node.DataDir()}})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Run(context.Background()); err == nil || !strings.Contains(err.Error(), lost) {
			t.Errorf("start %d without its metadata: %v", try, err)
		}
	}
	if err := os.RemoveAll(lost); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(lost+".away", lost); err != nil {
		t.Fatal(err)
	}
	node.Restart(nil, nil)
	listed, err := kadm.NewClient(cl).ListEndOffsets(soon(t), "precious")
	if err != nil {
		t.Fatal(err)
	}
	if o, _ := listed.Lookup("precious", 0); o.Offset != 1 {
		t.Errorf("end offset %d after the metadata came back, want 1", o.Offset)
	}
}
