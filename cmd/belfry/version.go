package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker for a release build; see the Makefile.
var version = "dev"

type versionBody struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func versionCommand(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Show the program's version", Args: noArgs,
		Example: "  belfry version -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := versionBody{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
			if info, ok := debug.ReadBuildInfo(); ok {
				for _, s := range info.Settings {
					if s.Key == "vcs.revision" {
						b.Revision = s.Value
					}
				}
			}
			return c.show(cmd.OutOrStdout(), view{
				columns: columns("VERSION", "REVISION", "GO", "PLATFORM"),
				rows:    [][]string{{b.Version, b.Revision, b.Go, b.Platform}},
				body:    b,
			})
		},
	}
}
