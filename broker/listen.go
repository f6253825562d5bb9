package broker

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/belfry-mq/belfry/broker/config"
	"github.com/belfry-mq/belfry/broker/metadata"
	"github.com/belfry-mq/belfry/broker/wire"
)

// plaintext is Kafka's number of the security protocol without any security.
const plaintext = 0

// address is one entry of listeners or advertised.listeners.
type address struct {
	name string
	host string
	port int
}

// parseListeners reads NAME://HOST:PORT entries.
//
// Errors: the setting, the entry, and what it should look like.
func parseListeners(setting string, entries []string) ([]address, error) {
	var out []address
	seen := map[string]bool{}
	for _, e := range entries {
		bad := func(why string) error {
			return fmt.Errorf("cannot use %q in %s: %s; an entry looks like PLAINTEXT://127.0.0.1:9092", e, setting, why)
		}
		name, rest, ok := strings.Cut(e, "://")
		if !ok {
			return nil, bad("there is no ://")
		}
		name = strings.ToUpper(name)
		if secure(name) {
			return nil, bad(fmt.Sprintf("listener %q is not served: there is no TLS and no SASL yet", name))
		}
		if !legalListener(name) {
			return nil, bad(fmt.Sprintf("%q is no listener's name; want letters, digits and _, such as PLAINTEXT, PUBLIC or INTERNAL", name))
		}
		if seen[name] {
			return nil, bad(fmt.Sprintf("listener %s stands there twice", name))
		}
		seen[name] = true
		host, portText, err := net.SplitHostPort(rest)
		if err != nil {
			return nil, bad("the address is not HOST:PORT")
		}
		port, err := strconv.Atoi(portText)
		if err != nil || port < 0 || port > 65535 {
			return nil, bad("the port is not a number from 0 to 65535")
		}
		out = append(out, address{name, host, port})
	}
	return out, nil
}

// secure tells of the names that stand for a security protocol in Kafka.
func secure(name string) bool {
	return strings.HasPrefix(name, "SSL") || strings.HasPrefix(name, "SASL")
}

func legalListener(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(c rune) bool {
		return (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_'
	})
}

// interBroker gives the listener that other brokers connect to: the one that is named,
// else the only one, else the first that is not the public one.
//
// Errors: there is none of that name.
func interBroker(v *config.Values, listen []address) (string, error) {
	name := strings.ToUpper(v.String("inter.broker.listener.name"))
	var names []string
	for _, a := range listen {
		if a.name == name {
			return name, nil
		}
		names = append(names, a.name)
	}
	if name != "" {
		return "", fmt.Errorf("cannot use %q as inter.broker.listener.name: listeners has only %s", name, strings.Join(names, ", "))
	}
	for _, name := range names {
		if name != "PUBLIC" {
			return name, nil
		}
	}
	return names[0], nil
}

// addresses reads both settings and checks that they fit.
func addresses(v *config.Values) (listen, advertise []address, err error) {
	if listen, err = parseListeners("listeners", v.List("listeners")); err != nil {
		return nil, nil, err
	}
	if len(listen) == 0 {
		return nil, nil, errors.New("cannot serve without a listener: listeners is empty")
	}
	if advertise, err = parseListeners("advertised.listeners", v.List("advertised.listeners")); err != nil {
		return nil, nil, err
	}
	for _, a := range advertise {
		known := false
		for _, l := range listen {
			known = known || l.name == a.name
		}
		if !known {
			return nil, nil, fmt.Errorf("cannot advertise listener %s: listeners does not have it", a.name)
		}
	}
	return listen, advertise, nil
}

// open opens the doors; nobody is answered yet.
//
// Errors: one line that says which listener cannot be opened and why.
func open(listen []address) ([]wire.Listener, error) {
	var doors []wire.Listener
	for _, a := range listen {
		at := net.JoinHostPort(a.host, strconv.Itoa(a.port))
		l, err := net.Listen("tcp", at)
		if err != nil {
			shut(doors)
			return nil, listenError(a.name, at, "listeners", err)
		}
		doors = append(doors, wire.Listener{Name: a.name, Public: a.name == "PUBLIC", Net: l})
	}
	return doors, nil
}

func listenError(name, at, setting string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("cannot listen on %s for %s: another program has the port; stop it or change the setting %s", at, name, setting)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("cannot listen on %s for %s: not permitted; ports below 1024 need a privilege", at, name)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("cannot listen on %s for %s: this machine does not have the address; change the setting %s", at, name, setting)
	}
	return fmt.Errorf("cannot listen on %s for %s: %w", at, name, err)
}

func shut(doors []wire.Listener) {
	for _, d := range doors {
		d.Net.Close()
	}
}

// endpoints gives what clients are told: advertised.listeners where it has the
// listener, else the address that is listened on. A port of 0 stands for the one
// that the system gave; a host that means "all" becomes this machine's name.
func endpoints(doors []wire.Listener, listen, advertise []address) ([]metadata.Endpoint, error) {
	var out []metadata.Endpoint
	for i, d := range doors {
		a := listen[i]
		for _, other := range advertise {
			if other.name == a.name {
				a = other
			}
		}
		if a.port == 0 {
			a.port = d.Net.Addr().(*net.TCPAddr).Port
		}
		if ip := net.ParseIP(a.host); a.host == "" || ip != nil && ip.IsUnspecified() {
			name, err := os.Hostname()
			if err != nil {
				return nil, fmt.Errorf("cannot tell clients where listener %s is: set advertised.listeners: %w", a.name, err)
			}
			a.host = name
		}
		out = append(out, metadata.Endpoint{Listener: a.name, Host: a.host, Port: int32(a.port), Security: plaintext})
	}
	return out, nil
}
