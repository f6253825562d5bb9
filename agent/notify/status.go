package notify

import (
	"maps"
	"slices"
	"time"

	"github.com/belfry-mq/belfry/agent/metric"
)

// Status is what one queue looks like.
type Status struct {
	Queue     string    // RECEIVER/KIND[N]
	Receiver  string    // RECEIVER/KIND
	Waiting   int       // messages to deliver
	Oldest    time.Time // of those; zero when none waits
	Dead      int       // dead letters kept
	Delivered uint64    // since the process began
	Failed    uint64    // attempts that failed, since the process began
	Died      uint64    // messages given up, since the process began
	LastError string    // of the attempt before; empty when it went well
	DiskFails uint64    // writes of the queue that failed
}

// DeadLetter is a message that was given up.
type DeadLetter struct {
	Queue, Key string
	Created    time.Time
	At         time.Time // when it was given up
	Error      string
	Alarms     []string // what it was about: rule and object
}

// Status gives every queue, sorted by name. It does not wait for disk or network.
func (e *Engine) Status() []Status {
	var all []Status
	for _, receiver := range e.Receivers() {
		for _, o := range e.outlets[receiver] {
			all = append(all, o.status())
		}
	}
	return all
}

func (o *outlet) status() Status {
	q := o.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	s := Status{
		Queue: q.name, Receiver: o.receiver + "/" + o.kind, Waiting: len(q.mu.items), Dead: len(q.mu.dead),
		Delivered: q.mu.delivered, Failed: q.mu.failed, Died: q.mu.died, LastError: q.mu.lastError, DiskFails: q.journal.failures(),
	}
	if len(q.mu.items) > 0 {
		s.Oldest = q.mu.items[0].Created
	}
	return s
}

// DeadLetters gives the messages that were given up, by queue, the oldest first.
func (e *Engine) DeadLetters() []DeadLetter {
	var all []DeadLetter
	for _, receiver := range e.Receivers() {
		for _, o := range e.outlets[receiver] {
			o.queue.mu.Lock()
			for _, d := range o.queue.mu.dead {
				letter := DeadLetter{Queue: o.queue.name, Key: d.Key, Created: d.Message.Created, At: d.At, Error: d.Error}
				for _, a := range d.Message.Alerts {
					letter.Alarms = append(letter.Alarms, a.Name()+" "+string(a.Annotations["object"]))
				}
				all = append(all, letter)
			}
			o.queue.mu.Unlock()
		}
	}
	return all
}

// Retry puts a dead letter back in its queue; false = there is none with this key.
func (e *Engine) Retry(queue, key string) bool {
	for _, outlets := range e.outlets {
		for _, o := range outlets {
			if o.queue.name == queue {
				return o.queue.retry(key)
			}
		}
	}
	return false
}

// Samples gives the numbers as series of the catalogue, for the next snapshot,
// summed over the queues of one kind of one receiver. Broker is the node's ID.
func (e *Engine) Samples(broker string) []metric.Sample {
	type sums struct{ delivered, failed, waiting float64 }
	by := map[string]sums{}
	for _, s := range e.Status() {
		sum := by[s.Receiver]
		sum.delivered += float64(s.Delivered)
		sum.failed += float64(s.Failed)
		sum.waiting += float64(s.Waiting)
		by[s.Receiver] = sum
	}
	var out []metric.Sample
	for _, receiver := range slices.Sorted(maps.Keys(by)) {
		labels := metric.Labels(metric.LabelBroker, broker, metric.LabelReceiver, receiver)
		out = append(out,
			metric.Sample{ID: metric.Notifications, Labels: labels, Value: by[receiver].delivered},
			metric.Sample{ID: metric.NotificationsFailed, Labels: labels, Value: by[receiver].failed},
			metric.Sample{ID: metric.NotificationsWaiting, Labels: labels, Value: by[receiver].waiting})
	}
	out, _ = metric.Arrange(out)
	return out
}
