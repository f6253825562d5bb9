package dashboards

import (
	"embed"
	"io/fs"
)

//go:embed grafana/*.json
var files embed.FS

// FS holds the boards as JSON files at its top, to be written out or served for Grafana's provisioning.
func FS() fs.FS {
	sub, err := fs.Sub(files, "grafana")
	if err != nil {
		panic("BUG: the embedded boards have no folder: " + err.Error())
	}
	return sub
}
