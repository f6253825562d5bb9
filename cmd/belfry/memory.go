package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"

	"github.com/belfry-mq/belfry/agent"
	"github.com/belfry-mq/belfry/agent/checkpoint"
)

// memory keeps over a restart which cluster an agent watches: one that starts while the cluster is
// away could not tell otherwise that a broker is missing.
type memory struct {
	file   *checkpoint.File
	known  agent.Known
	latest chan agent.Known // the newest that is to be kept; capacity 1
}

// openMemory reads what was kept. A file that is damaged is set aside: the cluster tells everything anew.
func openMemory(path string, log *slog.Logger) (*memory, error) {
	m := &memory{file: checkpoint.New(path, "cluster"), latest: make(chan agent.Known, 1)}
	raw, err := m.file.Load()
	if err == nil {
		err = json.Unmarshal(raw, &m.known)
	}
	switch {
	case err == nil || errors.Is(err, fs.ErrNotExist):
		return m, nil
	case errors.Is(err, fs.ErrPermission):
		return nil, err
	}
	log.Warn("what was known of the cluster is set aside", "err", err)
	m.known = agent.Known{}
	return m, m.file.SetAside()
}

// learn takes what is to be kept instead of what was. It does not wait.
func (m *memory) learn(k agent.Known) {
	for {
		select {
		case m.latest <- k:
			return
		case <-m.latest: // older
		}
	}
}

// Run keeps what is learned until ctx ends. A write that fails is an error; the next Run
// tries it again.
func (m *memory) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case k := <-m.latest:
			raw, err := json.Marshal(k)
			if err != nil {
				panic("BUG: what is known cannot be encoded: " + err.Error())
			}
			if err := m.file.Save(raw); err != nil {
				select {
				case m.latest <- k: // for the next try
				default: // there is something newer
				}
				return err
			}
		}
	}
}
