package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	prom "github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/belfry-mq/belfry/agent"
	"github.com/belfry-mq/belfry/agent/cluster"
	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/exporters/prometheus"
)

// aloneDir is where an agent without a broker keeps its state unless told otherwise.
const aloneDir = "./belfry-agent"

func agentCommand(c *client) *cobra.Command {
	var file, level string
	cmd := &cobra.Command{
		Use: "agent", Short: "Watch another Kafka cluster: metrics and alarms without a broker", Args: noArgs,
		Long: "Watch a cluster that speaks the Kafka protocol, such as Apache Kafka, from beside it:\n" +
			"its metrics at /metrics, alarm rules and notification as in a node.\n\n" +
			"Without a configuration it watches 127.0.0.1:9092 and listens on loopback at port 9308.\n" +
			"What only the machine can tell is read when agent.host.broker names the broker on it.",
		Example: "  belfry agent --bootstrap-server kafka-1:9092\n  belfry agent --config agent.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, err := loadConfig(file)
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("bootstrap-server") {
				if v, err = v.With(map[string]string{"agent.bootstrap.servers": strings.Join(c.bootstrap, ",")}); err != nil {
					return err
				}
			}
			log, err := newLogger(cmd.ErrOrStderr(), level)
			if err != nil {
				return err
			}
			s, err := newSidecar(v, log)
			if err != nil {
				return err
			}
			s.banner(cmd.OutOrStdout())
			return s.watch(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file; `belfry config print` lists the settings")
	logFlag(cmd, &level)
	return cmd
}

// sidecar is one process: an agent without a broker.
type sidecar struct {
	lookout
	values *config.Values
	dir    string
	memory *memory
}

// newSidecar opens the agent's state and the metrics port, and starts nothing. A cluster that
// cannot be reached is no error: it may come later.
func newSidecar(v *config.Values, log *slog.Logger) (*sidecar, error) {
	if err := onlyAgents(v); err != nil {
		return nil, err
	}
	reach, err := clusterOptions(v)
	if err != nil {
		return nil, err
	}
	broker, dirs := v.String("agent.host.broker"), v.List("agent.host.dirs")
	if broker == "" && len(dirs) > 0 {
		return nil, errors.New("agent.host.dirs is set without agent.host.broker: name the broker whose data is there")
	}
	for _, d := range dirs {
		if _, err := os.Stat(d); err != nil {
			return nil, fmt.Errorf("cannot read a directory of agent.host.dirs: %w", err)
		}
	}
	s := &sidecar{lookout: lookout{log: log}, values: v, dir: v.String("agent.state.dir")}
	if s.dir == "" {
		s.dir = aloneDir
	}
	if s.office, err = openOffice(v, s.dir, broker, union{}, log); err != nil {
		return nil, err
	}
	if s.memory, err = openMemory(filepath.Join(s.dir, "cluster"), log); err != nil {
		return nil, err
	}
	id := func() string { return s.agent.InstanceID() }
	metrics, err := prometheus.New(prometheus.Options{
		InstanceID: id, Broker: broker, Logger: log,
		Gatherers: []prom.Gatherer{s.office.notify.Gatherer(), goRuntime()},
	})
	if err != nil {
		return nil, err
	}
	s.agent, err = agent.New(agent.Options{
		Logger: log, Period: v.Duration("agent.period"), Broker: broker,
		Host: broker != "", DataDirs: dirs, StorageCapacity: func() int64 { return v.Int("storage_capacity") },
		Cluster: reach, IncludeInternal: v.Bool("include_internal"),
		Known: s.memory.known, Learned: s.memory.learn,
		Sources:   s.office.sources(broker),
		Alarm:     agent.Part{Name: "alarm", Receiver: s.office.alarms, Runner: s.office.alarms},
		Exporters: append(s.office.parts(nil), agent.Part{Name: "prometheus", Receiver: metrics}, agent.Part{Name: "memory", Runner: s.memory}),
	})
	if err != nil {
		return nil, err
	}
	s.door, s.web, err = website(v, agent.Handler(agent.Endpoints{
		Metrics: metrics, Health: s.agent.Stalled, Ready: s.unready,
		SafeToStop: safetyPage(reach, -1), Alarms: s.office.known(id),
	}))
	return s, err
}

// onlyAgents refuses settings that would do nothing here.
func onlyAgents(v *config.Values) error {
	var names []string
	for _, row := range config.Table() {
		if _, ok := v.Set(row.Name); ok && row.Scope&config.Agent == 0 && row.Scope&config.Node != 0 {
			names = append(names, row.Name)
		}
	}
	if len(names) > 0 {
		return fmt.Errorf("cannot run an agent with settings of a node: take out %s", strings.Join(names, ", "))
	}
	return nil
}

// clusterOptions say how to reach the cluster to watch.
func clusterOptions(v *config.Values) (cluster.Options, error) {
	o := cluster.Options{Seeds: v.List("agent.bootstrap.servers")}
	if len(o.Seeds) == 0 {
		return o, errors.New("agent.bootstrap.servers names no broker: want HOST:PORT, several with commas between")
	}
	var err error
	if o.SASL, err = logIn(v); err != nil {
		return o, err
	}
	ca := v.String("agent.tls.ca")
	if !v.Bool("agent.tls.enable") {
		if ca != "" {
			return o, errors.New("agent.tls.ca is set without agent.tls.enable: set it to true, or take agent.tls.ca out")
		}
		return o, nil
	}
	o.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	if ca == "" {
		return o, nil
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		return o, fmt.Errorf("cannot read agent.tls.ca: %w", err)
	}
	o.TLS.RootCAs = x509.NewCertPool()
	if !o.TLS.RootCAs.AppendCertsFromPEM(pem) {
		return o, fmt.Errorf("cannot use agent.tls.ca %q: it holds no certificate in PEM form", ca)
	}
	return o, nil
}

// logIn gives the SASL mechanism; nil for none.
func logIn(v *config.Values) (sasl.Mechanism, error) {
	mechanism, user, password := v.String("agent.sasl.mechanism"), v.String("agent.sasl.username"), v.String("agent.sasl.password")
	if mechanism == "" {
		if user != "" || password != "" {
			return nil, errors.New("agent.sasl.username or agent.sasl.password is set without agent.sasl.mechanism: want PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")
		}
		return nil, nil
	}
	if user == "" || password == "" {
		return nil, fmt.Errorf("agent.sasl.mechanism %s needs agent.sasl.username and agent.sasl.password", mechanism)
	}
	switch mechanism {
	case "PLAIN":
		return plain.Auth{User: user, Pass: password}.AsMechanism(), nil
	case "SCRAM-SHA-256":
		return scram.Auth{User: user, Pass: password}.AsSha256Mechanism(), nil
	case "SCRAM-SHA-512":
		return scram.Auth{User: user, Pass: password}.AsSha512Mechanism(), nil
	}
	panic("BUG: no SASL mechanism " + mechanism)
}

// unready gives the reasons why the metrics do not tell of the cluster yet.
func (s *sidecar) unready() []string {
	if !s.agent.Reached() {
		return []string{"the cluster at " + s.values.String("agent.bootstrap.servers") + " was not reached yet (agent.bootstrap.servers)"}
	}
	return nil
}

// banner says what is watched and where to look.
func (s *sidecar) banner(w io.Writer) {
	fmt.Fprintf(w, "belfry %s · agent of the cluster at %s\n", version, s.values.String("agent.bootstrap.servers"))
	if s.door != nil {
		fmt.Fprintf(w, "  metrics   http://%s/metrics\n  health    http://%s/healthz and /readyz\n", s.door.Addr(), s.door.Addr())
	}
	state, err := filepath.Abs(s.dir)
	if err != nil {
		state = s.dir
	}
	fmt.Fprintf(w, "  state     %s\nstop it with Ctrl-C\n", state)
}
