package quorum

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// bridge lets the raft libraries log to slog. Their levels are one too loud for
// us: an election is their warning and our information.
type bridge struct {
	*slog.Logger
	name string
	args []any
}

var _ hclog.Logger = (*bridge)(nil)

func newBridge(l *slog.Logger) *bridge { return &bridge{Logger: l} }

func slogLevel(l hclog.Level) slog.Level {
	switch l {
	case hclog.Error:
		return slog.LevelError
	case hclog.Warn:
		return slog.LevelInfo
	default:
		return slog.LevelDebug
	}
}

// known are messages of the library that are told better elsewhere: a member that
// cannot be reached makes one of these with every heartbeat, meter tells it once.
func known(msg string) bool {
	switch msg {
	case "failed to appendEntries to", "failed to heartbeat to", "failed to make requestVote RPC", "failed to send snapshot to",
		"peer has newer term, stopping replication", // another node leads now, which is told as such
		"failed to install snapshot", "failed to decode incoming command", "failed to flush response", "failed to contact":
		return true
	}
	return false
}

// plain makes formats and byte lists of hclog readable for slog.
func plain(args []any) []any {
	out := make([]any, len(args))
	for i, a := range args {
		switch a := a.(type) {
		case hclog.Format:
			out[i] = fmt.Sprintf(a[0].(string), a[1:]...)
		default:
			out[i] = a
		}
	}
	return out
}

// Log implements hclog.Logger.
func (b *bridge) Log(level hclog.Level, msg string, args ...any) {
	at := slogLevel(level)
	if known(msg) {
		at = slog.LevelDebug
	}
	if b.Enabled(context.Background(), at) {
		b.Logger.Log(context.Background(), at, "raft: "+msg, plain(args)...)
	}
}

// The rest implements hclog.Logger.

func (b *bridge) Trace(msg string, args ...any) { b.Log(hclog.Trace, msg, args...) }
func (b *bridge) Debug(msg string, args ...any) { b.Log(hclog.Debug, msg, args...) }
func (b *bridge) Info(msg string, args ...any)  { b.Log(hclog.Info, msg, args...) }
func (b *bridge) Warn(msg string, args ...any)  { b.Log(hclog.Warn, msg, args...) }
func (b *bridge) Error(msg string, args ...any) { b.Log(hclog.Error, msg, args...) }

func (b *bridge) on(l hclog.Level) bool { return b.Enabled(context.Background(), slogLevel(l)) }

func (b *bridge) IsTrace() bool { return false }
func (b *bridge) IsDebug() bool { return b.on(hclog.Debug) }
func (b *bridge) IsInfo() bool  { return b.on(hclog.Info) }
func (b *bridge) IsWarn() bool  { return b.on(hclog.Warn) }
func (b *bridge) IsError() bool { return b.on(hclog.Error) }

func (b *bridge) ImpliedArgs() []any { return b.args }
func (b *bridge) Name() string       { return b.name }

func (b *bridge) With(args ...any) hclog.Logger {
	return &bridge{Logger: b.Logger.With(plain(args)...), name: b.name, args: append(b.args[:len(b.args):len(b.args)], args...)}
}

func (b *bridge) Named(name string) hclog.Logger {
	if b.name != "" {
		name = b.name + "." + name
	}
	return b.ResetNamed(name)
}

func (b *bridge) ResetNamed(name string) hclog.Logger {
	return &bridge{Logger: b.Logger, name: name, args: b.args}
}

func (b *bridge) SetLevel(hclog.Level)  {} // slog decides
func (b *bridge) GetLevel() hclog.Level { return hclog.Debug }

func (b *bridge) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return slog.NewLogLogger(b.Handler(), slog.LevelDebug)
}

func (b *bridge) StandardWriter(o *hclog.StandardLoggerOptions) io.Writer {
	return b.StandardLogger(o).Writer()
}
