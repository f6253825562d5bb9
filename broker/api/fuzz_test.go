package api_test

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/belfry-mq/belfry/broker/brokertest"
)

// allocationLimit is the most that the node may allocate for one request of at most 64 KiB, all its work included: a
// topic with the hundreds of partitions that the limit of the instance allows is the dearest.
const allocationLimit = 64 << 20

// FuzzEveryAPI sends any body to any served API in any version. Whatever it is, the
// request is answered or its connection closed, soon and at a bounded cost, and the node goes on: a
// request that crashes a handler would show as a connection that is closed with an
// error in the log (errorLog).
func FuzzEveryAPI(f *testing.F) {
	seeds := []kmsg.Request{
		kmsg.NewPtrMetadataRequest(), kmsg.NewPtrApiVersionsRequest(), kmsg.NewPtrFindCoordinatorRequest(),
		kmsg.NewPtrJoinGroupRequest(), kmsg.NewPtrDescribeConfigsRequest(), kmsg.NewPtrDeleteTopicsRequest(),
		fetchOf(4, time.Millisecond, 1, 0, "t"), fetchOf(11, time.Millisecond, 1, 0, "t", "u"), fetchOf(17, time.Millisecond, 1, 0, "t"),
		listOffsets(0, -1), listOffsets(7, -3), produceRequest(2, "t", batchOf("x", 1)), produceRequest(9, "t", batchOf("x", 1)),
	}
	for _, req := range seeds {
		f.Add(req.Key(), req.GetVersion(), req.AppendTo(nil))
	}
	node := brokertest.Start(f, brokertest.Set(map[string]string{"auto.create.topics.enable": "true", "instance.partition.limit": "200"}))
	raw := dialRaw(f, node.Addr())
	makeTopic(raw, "t", nil)
	for _, k := range raw.ask(kmsg.NewPtrApiVersionsRequest()).(*kmsg.ApiVersionsResponse).ApiKeys {
		req := kmsg.RequestForKey(k.ApiKey) // an empty one of each API, of its first and last version
		for _, v := range []int16{0, k.MaxVersion} {
			req.SetVersion(v)
			f.Add(k.ApiKey, v, req.AppendTo(nil))
		}
	}
	f.Fuzz(func(t *testing.T, key, version int16, body []byte) {
		if version < 0 || len(body) > 1<<16 {
			return
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		conn, err := net.Dial("tcp", node.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write(frameOf(key, version, body)); err != nil {
			t.Fatal(err)
		}
		if key == kmsg.JoinGroup.Int16() || key == kmsg.SyncGroup.Int16() || key == kmsg.Fetch.Int16() || key == kmsg.Produce.Int16() {
			// May wait, or need no answer: the next request shows that the reader goes on.
			conn.Close()
		} else if err := answered(conn); err != nil {
			t.Fatalf("%s %d: %v", kmsg.NameForKey(key), version, err)
		}
		alive := dialRaw(t, node.Addr())
		alive.ask(kmsg.NewPtrApiVersionsRequest())
		alive.conn.Close()
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > allocationLimit {
			t.Fatalf("%s %d: %d bytes of request, %d bytes allocated, want at most %d", kmsg.NameForKey(key), version, len(body), got, allocationLimit)
		}
		if lines := node.Errors(); len(lines) > 0 {
			t.Fatalf("%s %d: the node logs %q", kmsg.NameForKey(key), version, lines)
		}
	})
}

// frameOf gives a request with a header that fits its version.
func frameOf(key, version int16, body []byte) []byte {
	b := binary.BigEndian.AppendUint16(make([]byte, 4), uint16(key))
	b = binary.BigEndian.AppendUint16(b, uint16(version))
	b = binary.BigEndian.AppendUint32(b, 1)
	b = append(b, 0, 4, 'f', 'u', 'z', 'z')
	if req := kmsg.RequestForKey(key); req != nil {
		req.SetVersion(version)
		if req.IsFlexible() {
			b = append(b, 0)
		}
	}
	b = append(b, body...)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// answered waits for one answer or the end of the connection.
func answered(conn net.Conn) error {
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	var size [4]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		var ne net.Error
		if errors.As(err, &ne) && ne.Timeout() {
			return errors.New("neither answered nor closed")
		}
		return nil
	}
	_, err := io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(size[:])))
	return err
}
