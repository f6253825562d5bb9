package wire

import (
	"os"

	"github.com/twmb/franz-go/pkg/kmsg"
)

type responseKind uint8

const (
	responseMessage responseKind = iota
	responsePieces
	responseNothing
	responseDrop
)

// Response is what goes out; build it with Message or Pieces.
type Response struct {
	kind    responseKind
	code    int16
	message kmsg.Response
	pieces  []Piece
	err     error
}

// Message answers with a kmsg response, whose version is set by the server. code is the error code for the statistics.
// The response belongs to the server from here on.
func Message(m kmsg.Response, code int16) Response {
	return Response{kind: responseMessage, message: m, code: code}
}

// Piece is bytes or a part of a file.
type Piece struct {
	Bytes   []byte
	File    *os.File // with Pos, Len: sent by sendfile where possible
	Pos     int64
	Len     int
	ReadAt  func(b []byte, at int64) (int, error) // at counts from the piece's start; used when File is nil and Bytes is nil, or the connection cannot sendfile
	Release func()                                // called once after sending or dropping; may be nil
}

// size gives the bytes of the piece on the wire.
func (p *Piece) size() int {
	if p.Bytes != nil {
		return len(p.Bytes)
	}
	return p.Len
}

// readAt fills b from the piece's file.
func (p *Piece) readAt(b []byte, at int64) (int, error) {
	if p.ReadAt != nil {
		return p.ReadAt(b, at)
	}
	if p.File == nil {
		panic("BUG: piece without bytes, file and reader")
	}
	return p.File.ReadAt(b, p.Pos+at)
}

// Pieces answers with a body made by hand (after the response header). The pieces belong to the server from here on.
func Pieces(ps []Piece, code int16) Response {
	return Response{kind: responsePieces, pieces: ps, code: code}
}

func (r *Response) release() {
	for i := range r.pieces {
		if f := r.pieces[i].Release; f != nil {
			r.pieces[i].Release = nil
			f()
		}
	}
}
