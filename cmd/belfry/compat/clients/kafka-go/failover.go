package main

import (
	"context"
	"errors"
	"time"

	"github.com/segmentio/kafka-go"

	"belfry/features"
)

func (d driver) failover(ctx context.Context) error {
	t := d.Topic("failover") // the test has made it
	w := writer(d.Bootstrap, t)
	w.MaxAttempts, w.WriteBackoffMax = 100, 200*time.Millisecond
	r := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{d.Bootstrap}, GroupID: t, Topic: t, MinBytes: 1, MaxBytes: 32 << 20, MaxWait: 200 * time.Millisecond,
		StartOffset: kafka.FirstOffset, SessionTimeout: 6 * time.Second, HeartbeatInterval: 300 * time.Millisecond, ReadBackoffMax: 200 * time.Millisecond})
	err := features.Survive(ctx, features.Failover{
		Send: func(ctx context.Context, values []string) error {
			var all []kafka.Message
			for _, value := range values {
				all = append(all, kafka.Message{Value: []byte(value)})
			}
			return w.WriteMessages(ctx, all...)
		},
		Read: func(ctx context.Context) ([]string, error) {
			m, err := r.ReadMessage(ctx)
			if err != nil {
				return nil, err
			}
			return []string{string(m.Value)}, nil
		},
		Twice: true,
	})
	return errors.Join(err, w.Close(), r.Close())
}
