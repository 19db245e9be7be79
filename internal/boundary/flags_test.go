package boundary_test

import (
	"go/ast"
	"go/token"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A text that tells a person to give a flag names one that ingest or snapshot
// has. Flags stand in the tags of the commands' structs.
func TestMessagesNameFlagsThatExist(t *testing.T) {
	flags := map[string]bool{"--help": true}
	mentions := map[string]string{} // by place
	named := regexp.MustCompile(`--[a-z][a-z-]*[a-z]`)
	parts := []string{"cmd/", "cdc/", "featurestore/", "snapshot/", "labels/", "internal/cli/", "internal/definition/"}
	for _, s := range sources(t) {
		if !slices.ContainsFunc(parts, func(part string) bool { return strings.HasPrefix(s.path, part) }) {
			continue
		}
		note := func(text string, pos token.Pos) {
			for _, flag := range named.FindAllString(text, -1) {
				mentions[s.at(pos)+" "+flag] = flag
			}
		}
		tags := map[*ast.BasicLit]bool{}
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.Field:
				if n.Tag == nil {
					break
				}
				tags[n.Tag] = true
				text, err := strconv.Unquote(n.Tag.Value)
				if err != nil {
					t.Errorf("%s: %v", s.at(n.Pos()), err)
				}
				tag := reflect.StructTag(text)
				for _, name := range n.Names {
					if tag.Get("help") != "" && tag.Get("name") == "" {
						flags["--"+strings.ToLower(name.Name)] = true
					}
				}
				flags["--"+tag.Get("name")] = true
				note(tag.Get("help"), n.Pos())
			case *ast.BasicLit:
				if n.Kind == token.STRING && !tags[n] {
					note(n.Value, n.Pos())
				}
			}
			return true
		})
	}
	if len(mentions) < 50 {
		t.Fatalf("only %d flags are named: they are not looked for where they stand", len(mentions))
	}
	for place, flag := range mentions {
		if !flags[flag] {
			t.Errorf("%s: there is no such flag", place)
		}
	}
}
