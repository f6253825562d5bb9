package peer

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// patience is how long one attempt waits for an answer.
const patience = 2 * time.Second

// speaksKafka gets the first answers that every client needs: ApiVersions, then metadata with a broker in it.
func speaksKafka(addr string) error { return speaksBrokers(addr, 1) }

// speaksBrokers gets the same, with at least so many brokers.
func speaksBrokers(addr string, brokers int) error {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if err := Hello(conn); err != nil {
		return err
	}
	meta := kmsg.NewPtrMetadataRequest()
	meta.SetVersion(4) // Why: the oldest that every peer has and that is not flexible
	meta.Topics = []kmsg.MetadataRequestTopic{}
	answer, ok := meta.ResponseKind().(*kmsg.MetadataResponse)
	if !ok {
		panic("BUG: a metadata request has another answer")
	}
	if err := ask(conn, meta, answer); err != nil {
		return err
	}
	switch n := len(answer.Brokers); {
	case n == 0:
		return errors.New("no broker yet")
	case n < brokers:
		return fmt.Errorf("only %d brokers yet", n)
	}
	return nil
}

// Hello asks for the versions of the APIs and takes the answer.
func Hello(conn net.Conn) error {
	q := kmsg.NewPtrApiVersionsRequest()
	answer := q.ResponseKind()
	return ask(conn, q, answer)
}

// largestAnswer is far above what the two requests are answered with.
const largestAnswer = 1 << 20

func ask(conn net.Conn, q kmsg.Request, answer kmsg.Response) error {
	answer.SetVersion(q.GetVersion())
	f := kmsg.NewRequestFormatter(kmsg.FormatterClientID("bench"))
	if _, err := conn.Write(f.AppendRequest(nil, q, 1)); err != nil {
		return err
	}
	var head [8]byte // size, correlation
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return err
	}
	n := int(binary.BigEndian.Uint32(head[:])) - 4
	if n < 0 || n > largestAnswer {
		return fmt.Errorf("an answer of %d bytes", n)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(conn, body); err != nil {
		return err
	}
	return answer.ReadFrom(body)
}

// speaksNATS gets the server's greeting and the answer to a ping.
func speaksNATS(addr string) error {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	return HelloNATS(conn)
}

// HelloNATS connects to a NATS server and takes the answer to a ping.
func HelloNATS(conn net.Conn) error {
	if _, err := io.WriteString(conn, "CONNECT {\"verbose\":false}\r\nPING\r\n"); err != nil {
		return err
	}
	r := bufio.NewReader(conn)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		if strings.HasPrefix(line, "PONG") {
			return nil
		}
	}
}
