// Package wire is bytes and order on sockets.
package wire

import (
	"context"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/stats"
)

// Listener is one door.
type Listener struct {
	Name   string // "PLAINTEXT"
	Public bool
	Net    net.Listener
}

// Options of a Server. Limits of zero mean the documented default.
type Options struct {
	Listeners       []Listener
	Handler         Handler
	Versions        func(key int16) (min, max int16, ok bool) // what is served; asked before decoding
	Stats           *stats.Broker
	Logger          *slog.Logger
	MaxRequestBytes int                  // socket.request.max.bytes
	RequestMemory   int64                // queued.max.request.bytes: budget for frames and decoded requests of all connections
	IdleTimeout     func() time.Duration // connections.max.idle.ms
	MaxPerIP        func() int           // max.connections.per.ip (dynamic)
	MaxConnections  func() int
	MaxInFlight     int // replies a connection may owe
}

// Server runs the listeners.
type Server struct{}

func New(o Options) (*Server, error) { panic("BUG: unbuilt") }

// Run serves until ctx ends, then stops accepting, answers what is in flight within a grace, closes all.
func (s *Server) Run(ctx context.Context) error { panic("BUG: unbuilt") }

// Handler takes requests of one connection in order. It may block only as long as the connection may stand still.
type Handler interface{ Serve(*Request) }

// Request is one decoded request. Exactly one of Answer, AnswerNothing, Drop must be called, from any goroutine.
type Request struct {
	Key, Version int16
	Correlation  int32
	ClientID     *string
	Body         kmsg.Request // aliases the frame: valid until answered
	Size         int          // bytes of the frame
	Received     time.Time
	Session      *Session
}

func (r *Request) Context() context.Context { panic("BUG: unbuilt") } // ends when the connection is gone
func (r *Request) Answer(resp Response)     { panic("BUG: unbuilt") }
func (r *Request) AnswerNothing()           { panic("BUG: unbuilt") } // acks=0
func (r *Request) Drop(err error)           { panic("BUG: unbuilt") } // closes the connection after the answers before it

// Session is one connection.
type Session struct {
	ID                        uint64
	Remote                    net.Addr
	Listener                  string
	Public                    bool
	Software, SoftwareVersion string // KIP-511
}

// Response is what goes out; build with Message or Pieces.
type Response struct { /* unexported */
}

// Message answers with a kmsg response (its version is set by the server). code is the error code for the statistics.
func Message(m kmsg.Response, code int16) Response { panic("BUG: unbuilt") }

// Piece is bytes or a part of a file.
type Piece struct {
	Bytes   []byte
	File    *os.File // with Pos, Len: sent by sendfile where possible
	Pos     int64
	Len     int
	ReadAt  func(b []byte, at int64) (int, error) // used when File is nil and Bytes is nil, or the connection cannot sendfile
	Release func()                                // called once after sending or dropping; may be nil
}

// Pieces answers with a body made by hand (after the response header).
func Pieces(ps []Piece, code int16) Response { panic("BUG: unbuilt") }
