// Package features is what the Go drivers share: running every feature once and printing its line.
// How a group of two behaves stands in group.go.
package features

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limit is the longest that one feature may take.
const Limit = 40 * time.Second

// patience is the longest that one awaited thing may take.
const patience = Limit / 2

// Args are what every driver is called with.
type Args struct {
	Bootstrap, OldBootstrap, Prefix string
}

// Topic gives the full name of a topic or group.
func (a Args) Topic(name string) string { return a.Prefix + name }

// ReadArgs reads BOOTSTRAP OLD_BOOTSTRAP PREFIX.
func ReadArgs() Args {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: driver BOOTSTRAP OLD_BOOTSTRAP PREFIX")
		os.Exit(2)
	}
	return Args{Bootstrap: os.Args[1], OldBootstrap: os.Args[2], Prefix: os.Args[3]}
}

// Replicas is the number of replicas of a new topic.
func Replicas() int16 {
	text := os.Getenv("BELFRY_REPLICAS")
	if text == "" {
		return 1
	}
	n, err := strconv.ParseInt(text, 10, 16)
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot read BELFRY_REPLICAS:", err)
		os.Exit(2)
	}
	return int16(n)
}

// Feature is one column of the table: Try, or the reason why the client Lacks it.
type Feature struct {
	Name  string
	Try   func(ctx context.Context) error
	Lacks string
}

// Run tries the features one after the other and prints a line for each.
func Run(all []Feature) {
	for _, f := range all {
		if f.Name == "failover" && faults() == "" {
			continue // one node: nobody takes over
		}
		if f.Lacks != "" {
			fmt.Printf("%s\tnone\t%s\n", f.Name, f.Lacks)
			continue
		}
		began := time.Now()
		if err := try(f); err != nil {
			fmt.Printf("%s\tfail\t%s\n", f.Name, strings.Join(strings.Fields(err.Error()), " "))
		} else {
			fmt.Printf("%s\tok\t\n", f.Name)
		}
		fmt.Fprintf(os.Stderr, "%s: %v\n", f.Name, time.Since(began).Round(time.Millisecond))
	}
}

// try gives up on a feature whose client does not heed its context; what it left behind ends with the process.
func try(f Feature) error {
	ctx, cancel := context.WithTimeout(context.Background(), Limit)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- f.Try(ctx) }()
	select {
	case err := <-done:
		return err
	case <-time.After(Limit + time.Second):
		return fmt.Errorf("not done after %v", Limit)
	}
}

// Until polls until done holds.
func Until(ctx context.Context, limit time.Duration, what func() string, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited in vain: %s", what())
		case <-tick.C:
		}
	}
	return nil
}

// Equal fails unless both are the same.
func Equal[T comparable](got, want T, what string) error {
	if got != want {
		return fmt.Errorf("%s: got %v, want %v", what, got, want)
	}
	return nil
}

// EqualAll fails unless both lists are the same.
func EqualAll[T comparable](got, want []T, what string) error {
	if !slices.Equal(got, want) {
		return fmt.Errorf("%s: got %.200v, want %.200v", what, got, want)
	}
	return nil
}

// Refused fails unless err says what it should.
func Refused(err error, pattern, what string) error {
	if err == nil {
		return fmt.Errorf("%s: not refused", what)
	}
	if !regexp.MustCompile(pattern).MatchString(err.Error()) {
		return fmt.Errorf("%s: refused with %q, want %s", what, err, pattern)
	}
	return nil
}

// Message is a key with its value.
type Message struct{ Key, Value string }

// Messages makes n messages whose values compress well and differ.
func Messages(n int, name string) []Message {
	all := make([]Message, n)
	for i := range all {
		all[i] = Message{Key: fmt.Sprintf("%s-%d", name, i), Value: fmt.Sprintf("%s %d ", name, i) + strings.Repeat("abcdefgh", 40)}
	}
	return all
}

// MiB is a value of n × 2^20 bytes.
func MiB(n int) []byte {
	b := make([]byte, n<<20)
	for i := range b {
		b[i] = byte(i >> 8)
	}
	return b
}
