package port

import (
	"net"
	"strconv"
	"testing"
)

func TestPortsAreOnesOwn(t *testing.T) {
	seen := map[string]bool{}
	for range 500 {
		a := Addr(t)
		if seen[a] {
			t.Fatalf("%s is given twice", a)
		}
		seen[a] = true
	}
}

func TestTakenPortsAreSeen(t *testing.T) {
	address := Addr(t)
	if !free(address) {
		t.Fatalf("%s is given and not free", address)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if free(address) {
		t.Errorf("somebody listens at %s, and it is called free", address)
	}
}

func TestPortsComeBack(t *testing.T) {
	var number int
	take := func() (func(), error) { return lock(number) }
	t.Run("taken", func(t *testing.T) {
		_, port, err := net.SplitHostPort(Addr(t))
		if err != nil {
			t.Fatal(err)
		}
		if number, err = strconv.Atoi(port); err != nil {
			t.Fatal(err)
		}
		if unlock, err := take(); unlock != nil || err != nil {
			t.Errorf("port %d is taken twice, %v", number, err)
		}
	})
	unlock, err := take()
	if unlock == nil || err != nil {
		t.Fatalf("port %d is not free after the test that had it, %v", number, err)
	}
	unlock()
}
