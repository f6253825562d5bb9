package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Names of the programs that tell Prometheus about a cluster from beside it.
const (
	KafkaExporter = "kafka_exporter"
	KMinion       = "kminion"
)

// Exporter is one of these programs with its defaults, for the cluster at a bootstrap address.
//
// Errors: it is not installed.
func Exporter(cache, name, bootstrap string) (Spec, error) {
	program, version, err := find(cache, name)
	if err != nil {
		return Spec{}, err
	}
	s := Spec{Name: name, Version: version, Settings: "defaults", speaks: func(addr string) error { return Scrape(context.Background(), addr) }}
	s.prepare = func(_ context.Context, _ string, a addresses) ([]string, error) {
		if name == KafkaExporter {
			return []string{program, "--kafka.server=" + bootstrap, "--web.listen-address=" + a.client}, nil
		}
		host, port, err := net.SplitHostPort(a.client)
		// Why through env: it gives its process to the program.
		return []string{"env", "KAFKA_BROKERS=" + bootstrap, "EXPORTER_HOST=" + host, "EXPORTER_PORT=" + port, "LOGGER_LEVEL=error", program}, err
	}
	return s, nil
}

// scrapeLimit is how long a scrape may take: Prometheus's own default is ten seconds.
const scrapeLimit = 30 * time.Second

// Scrape fetches /metrics as Prometheus does.
//
// Errors: no answer, another one than 200, or an empty one.
func Scrape(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, scrapeLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err == nil && n == 0 {
		err = errors.New("an empty answer")
	}
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("the answer was %s", resp.Status)
	}
	return err
}

// FineCPU is CPU to the microsecond, without what threads have used that have ended.
func (p *Process) FineCPU() time.Duration {
	names, err := filepath.Glob("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/task/*/schedstat")
	if err != nil {
		return 0 // the pattern is ours
	}
	var sum time.Duration
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // it has just ended
		}
		first, _, _ := strings.Cut(string(b), " ")
		if ns, err := strconv.ParseInt(first, 10, 64); err == nil {
			sum += time.Duration(ns)
		}
	}
	return sum
}
