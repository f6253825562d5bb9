package watch

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/belfry-mq/belfry/broker/brokertest/port"
)

// kafkaRelease is the Apache Kafka that the agent watches here.
const kafkaRelease = "kafka-4.3.1"

// logger is the jar with which a Kafka says why it ends; the release itself has none.
const logger = "kafka-2.7.2/slf4j-simple-1.7.30.jar"

// kafka is an Apache Kafka of one node, broker and controller in one, on loopback.
type kafka struct {
	t       *testing.T
	address string // HOST:PORT
	guarded string // HOST:PORT with TLS, where watcher logs in
	ca      string // of its certificate
	dir     string
	jars    []string // class path
	cmd     *exec.Cmd
	gone    chan struct{}
}

// startKafka formats and starts one; it ends with the test.
func startKafka(t *testing.T) *kafka {
	t.Helper()
	root := os.Getenv("BELFRY_CACHE")
	if root == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		root = filepath.Join(home, ".cache", "belfry")
	}
	c := newCredentials(t)
	jars := filepath.Join(root, kafkaRelease)
	k := &kafka{t: t, address: port.Addr(t), guarded: port.Addr(t), ca: c.ca, dir: t.TempDir(), jars: []string{filepath.Join(jars, "*"), filepath.Join(root, logger)}}
	if _, err := os.Stat(jars); err != nil {
		t.Fatalf("%s is missing: install it with `make deps`", jars)
	}
	controller := port.Addr(t)
	settings := fmt.Sprintf(`process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=%[2]s
listeners=PLAINTEXT://%[1]s,SASL_SSL://%[4]s,CONTROLLER://%[2]s
advertised.listeners=PLAINTEXT://%[1]s,SASL_SSL://%[4]s
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.ssl.keystore.type=PEM
listener.name.sasl_ssl.ssl.keystore.location=%[5]s
log.dirs=%[3]s
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
`, k.address, controller, k.data(), k.guarded, c.own)
	if err := os.WriteFile(k.settings(), []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	format := exec.CommandContext(t.Context(), "java", k.args("kafka.tools.StorageTool", "format", "-t", clusterID, "--standalone", "--add-scram", "SCRAM-SHA-512=[name=watcher,password=s3cret]", "-c", k.settings())...)
	if out, err := format.CombinedOutput(); err != nil {
		t.Fatalf("cannot format Kafka's storage: %v\n%s", err, out)
	}
	t.Cleanup(k.kill)
	k.launch()
	k.ready()
	return k
}

// clusterID is any UUID in Kafka's notation.
const clusterID = "4L6g3nShT-eMCtK--X86sw"

func (k *kafka) data() string { return filepath.Join(k.dir, "data") }

func (k *kafka) settings() string { return filepath.Join(k.dir, "server.properties") }

func (k *kafka) args(class string, args ...string) []string {
	return append([]string{"-Xmx400m", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", strings.Join(k.jars, ":"), class}, args...)
}

func (k *kafka) launch() {
	k.t.Helper()
	cmd := exec.Command("java", k.args("kafka.Kafka", k.settings())...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // Why: the parent-death signal is bound to the thread that starts the child
	err := cmd.Start()
	runtime.UnlockOSThread()
	if err != nil {
		k.t.Fatal(err)
	}
	gone := make(chan struct{})
	k.cmd, k.gone = cmd, gone
	go func() {
		defer close(gone)
		if err := cmd.Wait(); err != nil && !strings.Contains(err.Error(), "signal: killed") {
			k.t.Logf("Kafka ended: %v\n%s", err, said.String())
		}
	}()
}

// ready waits until it answers clients.
func (k *kafka) ready() {
	k.t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(k.address), kgo.RequestRetries(0))
	if err != nil {
		k.t.Fatal(err)
	}
	defer c.Close()
	u := user{t: k.t}
	eventually(k.t, "Kafka answers", func() bool {
		select {
		case <-k.gone:
			k.t.Fatal("Kafka has ended")
		default:
		}
		ctx, cancel := u.context()
		defer cancel()
		return c.Ping(ctx) == nil
	})
}

// kill ends the process at once.
func (k *kafka) kill() {
	select {
	case <-k.gone:
		return
	default:
	}
	_ = k.cmd.Process.Kill() // it may have ended by itself just now
	select {
	case <-k.gone:
	case <-time.After(patience):
		k.t.Error("Kafka does not end")
	}
}
