package rules

import (
	"embed"
	"fmt"
	"io/fs"
)

//go:embed builtin/*.yaml
var builtinFiles embed.FS

// Builtin gives the rules that every instance starts with, unchecked.
func Builtin() ([]Rule, error) {
	names, err := fs.Glob(builtinFiles, "builtin/*.yaml")
	if err != nil {
		return nil, fmt.Errorf("cannot list built-in rules: %w", err)
	}
	var all []Rule
	for _, name := range names {
		data, err := builtinFiles.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("cannot read built-in rules: %w", err)
		}
		rules, err := Parse(name, data, nil)
		if err != nil {
			return nil, err
		}
		for i := range rules {
			rules[i].Builtin = true
		}
		all = append(all, rules...)
	}
	return all, nil
}
