package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/belfry-mq/belfry/agent/cluster"
	"github.com/belfry-mq/belfry/agent/outage"
)

func clusterSafeToStop(c *client) *cobra.Command {
	var broker int32
	var accept []string
	cmd := &cobra.Command{
		Use: "safe-to-stop", Short: "Say whether a broker can be stopped without harm", Args: noArgs,
		Long: "Say whether a broker can be stopped without harm: no partition loses its leader or falls\n" +
			"below min.insync.replicas, the metadata keeps a majority of its voters, and nothing else is\n" +
			"amiss that the broker may be needed for. Exit code 0 = safe, 1 = not, or not known.\n\n" +
			"The answer is of this moment. Every node gives it, too: GET /safe-to-stop at the port of\n" +
			"/metrics, 200 = safe, 503 = not; ?broker=N asks of another one.",
		Example: "  belfry cluster safe-to-stop --broker 2",
		RunE: func(cmd *cobra.Command, _ []string) error {
			kinds, err := kindsOf(accept)
			if err != nil {
				return err
			}
			s, err := c.standing(cmd.Context())
			if err != nil {
				return err
			}
			asked := c.answering(s)
			if cmd.Flags().Changed("broker") {
				asked = []int32{broker}
			}
			return c.tellSafety(cmd.OutOrStdout(), s, asked, kinds)
		},
	}
	cmd.Flags().Int32Var(&broker, "broker", 0, "which one (default: the one that --bootstrap-server names; where that names several, every one)")
	acceptFlag(cmd, &accept)
	return cmd
}

func acceptFlag(cmd *cobra.Command, accept *[]string) {
	cmd.Flags().StringSliceVar(accept, "accept", nil, "reasons that do not count: "+strings.Join(kindNames(), ", "))
	completeFixed(cmd, "accept", kindNames())
}

// acceptable are the reasons that somebody may take upon himself. Why not all: what is not
// there cannot be stopped, and without a majority nothing can be put right again.
func acceptable(k outage.Kind) bool { return k != outage.NoBroker && k != outage.Quorum }

func kindNames() (names []string) {
	for _, k := range outage.Kinds() {
		if acceptable(k) {
			names = append(names, string(k))
		}
	}
	return names
}

func kindsOf(names []string) (kinds []outage.Kind, err error) {
	for _, n := range names {
		known := false
		for _, k := range kindNames() {
			known = known || k == n
		}
		if !known {
			return nil, usageError{fmt.Errorf("--accept %q: want some of %s", n, strings.Join(kindNames(), ", "))}
		}
		kinds = append(kinds, outage.Kind(n))
	}
	return kinds, nil
}

// standing asks the cluster at --bootstrap-server for what decides.
func (c *client) standing(ctx context.Context) (*cluster.Standing, error) {
	k, err := cluster.Open(cluster.Options{Seeds: c.bootstrap, ClientID: "belfry-cli"})
	if err != nil {
		return nil, usageError{err}
	}
	defer k.Close()
	ctx, cancel := context.WithTimeout(ctx, 2*clientTimeout)
	defer cancel()
	s, err := k.Standing(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot ask at %s: %w", strings.Join(c.bootstrap, ","), err)
	}
	return s, nil
}

// answering gives the broker at the only bootstrap address, else all.
func (c *client) answering(s *cluster.Standing) (ids []int32) {
	for _, m := range s.Members {
		if len(c.bootstrap) == 1 && c.bootstrap[0] == net.JoinHostPort(m.Host, strconv.Itoa(int(m.Port))) {
			return []int32{m.ID}
		}
		ids = append(ids, m.ID)
	}
	return ids
}

// tellSafety shows a verdict for each broker; that one is not safe is an error.
func (c *client) tellSafety(w io.Writer, s *cluster.Standing, brokers []int32, accept []outage.Kind) error {
	v := view{columns: columns("BROKER", "SAFE", "KIND", "COUNT", "WHY")}
	verdicts := make([]outage.Verdict, 0, len(brokers))
	unsafe := 0
	for _, id := range brokers {
		verdict := outage.Judge(s, id).Accepting(accept)
		verdicts = append(verdicts, verdict)
		if !verdict.Safe {
			unsafe++
		}
		v.rows = append(v.rows, safetyRows(verdict)...)
	}
	v.body = verdicts
	if err := c.show(w, v); err != nil {
		return err
	}
	switch {
	case unsafe == 0:
		return nil
	case len(brokers) == 1:
		return fmt.Errorf("broker %d is not safe to stop", brokers[0])
	}
	return fmt.Errorf("%d of %d brokers are not safe to stop", unsafe, len(brokers))
}

func safetyRows(v outage.Verdict) (rows [][]string) {
	id := strconv.Itoa(int(v.Broker))
	if v.Safe {
		rows = append(rows, []string{id, "yes", "", "", ""})
	}
	for _, r := range v.Reasons {
		rows = append(rows, []string{id, "no", string(r.Kind), strconv.Itoa(r.Count), r.String()})
	}
	for _, n := range v.Notes {
		rows = append(rows, []string{id, "", "note", "", n})
	}
	return rows
}

// safetyTime bounds one answer over HTTP.
const safetyTime = 20 * time.Second

// safetyPage answers GET /safe-to-stop: 200 when the broker named, else self, is safe to stop,
// 503 when it is not, or when that cannot be told; as text, or as JSON for who asks for it.
// Self is −1 where there is no broker in this process.
func safetyPage(reach cluster.Options, self int32) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
			return
		}
		broker := self
		if text := r.URL.Query().Get("broker"); text != "" || self < 0 {
			n, err := strconv.ParseInt(text, 10, 32)
			if err != nil || n < 0 {
				http.Error(w, fmt.Sprintf("broker=%q: want the ID of a broker", text), http.StatusBadRequest)
				return
			}
			broker = int32(n)
		}
		ctx, cancel := context.WithTimeout(r.Context(), safetyTime)
		defer cancel()
		answerSafety(w, r, verdictOf(ctx, reach, broker))
	})
}

// verdictOf asks the cluster. One that cannot be reached is not safe to take from.
func verdictOf(ctx context.Context, reach cluster.Options, broker int32) outage.Verdict {
	k, err := cluster.Open(reach)
	if err == nil {
		defer k.Close()
		var s *cluster.Standing
		if s, err = k.Standing(ctx); err == nil {
			return outage.Judge(s, broker)
		}
	}
	why := cmp.Or(err, errors.New("no answer")).Error()
	return outage.Verdict{Broker: broker, Notes: []string{}, Reasons: []outage.Reason{{
		Kind: outage.Unknown, Count: 1, What: "the cluster cannot be asked", Names: []string{why},
	}}}
}

func answerSafety(w http.ResponseWriter, r *http.Request, v outage.Verdict) {
	status := http.StatusOK
	if !v.Safe {
		status = http.StatusServiceUnavailable
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Vary", "Accept")
	if strings.Contains(r.Header.Get("Accept"), "application/json") {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v) // the reader went away
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, safetyText(v)) // the same
}

func safetyText(v outage.Verdict) string {
	var b strings.Builder
	word := "safe"
	if !v.Safe {
		word = "not safe"
	}
	fmt.Fprintf(&b, "%s to stop broker %d\n", word, v.Broker)
	for _, r := range v.Reasons {
		fmt.Fprintf(&b, "%s: %v\n", r.Kind, r)
	}
	for _, n := range v.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	return b.String()
}
