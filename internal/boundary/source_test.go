package boundary_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// source is a parsed Go file of the module, tests left out.
type source struct {
	path string // relative to the module's root, with slashes
	file *ast.File
	set  *token.FileSet
}

// at names a place in the file.
func (s source) at(pos token.Pos) string {
	return fmt.Sprintf("%s:%d", s.path, s.set.Position(pos).Line)
}

// sources parses the Go files that are no tests.
func sources(t *testing.T) []source {
	t.Helper()
	root := moduleRoot(t)
	var list []source
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() {
			if path == root {
				return nil
			}
			_, err := os.Stat(filepath.Join(path, "go.mod"))
			if err == nil || name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
				return fs.SkipDir // another module, or not part of the build
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, path)
		list = append(list, source{filepath.ToSlash(relative), file, set})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(list) < 20 {
		t.Fatalf("%d files found: this test does not see the module", len(list))
	}
	return list
}

func moduleRoot(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no go.mod above this test")
		}
		dir = parent
	}
}

// called is the function that a call names: "time.Sleep", "panic", or "" for
// a method or a function value.
func called(call *ast.CallExpr) string {
	switch fun := call.Fun.(type) {
	case *ast.Ident:
		return fun.Name
	case *ast.SelectorExpr:
		if pkg, ok := fun.X.(*ast.Ident); ok {
			return pkg.Name + "." + fun.Sel.Name
		}
	}
	return ""
}

func TestCodeKeepsTheHouseRules(t *testing.T) {
	// Files that may panic, each with its reason.
	panics := map[string]string{
		"internal/cli/cli.go":         "unwinds the flag parser when help was asked for, and recovers",
		"internal/definition/hash.go": "marshalling plain structs of our own cannot fail",
		"snapshot/spill/spill.go":     "hands on what it recovered and is no fault of a mapped file",
		"internal/workload/tables.go": "a value of the generator's own tables: a fault of the test kit",
	}
	// Places from which a process may be ended.
	exits := regexp.MustCompile(`^(cmd/[a-z]+|deploy/demo|internal/bench)/main\.go$`)

	for _, s := range sources(t) {
		ast.Inspect(s.file, func(node ast.Node) bool {
			switch n := node.(type) {
			case *ast.CallExpr:
				switch name := called(n); {
				case name == "time.Sleep":
					t.Errorf("%s: time.Sleep: wait for what is awaited, with a context", s.at(n.Pos()))
				case name == "panic" && panics[s.path] == "":
					t.Errorf("%s: panic: return an error", s.at(n.Pos()))
				case (name == "os.Exit" || strings.HasPrefix(name, "log.Fatal")) && !exits.MatchString(s.path):
					t.Errorf("%s: %s: only a main.go ends the process", s.at(n.Pos()), name)
				}
			case *ast.FuncDecl:
				if n.Name.Name == "init" && n.Recv == nil {
					t.Errorf("%s: func init: pass in what it would set up", s.at(n.Pos()))
				}
			case *ast.BasicLit:
				if n.Kind == token.STRING && strings.Contains(strings.ToLower(n.Value), "failed to ") {
					t.Errorf("%s: %q: name the operation and its key, not that it failed", s.at(n.Pos()), n.Value)
				}
			}
			return true
		})
		for _, group := range s.file.Comments {
			if text := group.Text(); strings.Contains(text, "TODO") || strings.Contains(text, "FIXME") {
				t.Errorf("%s: an open end: finish it, or say plainly what is not there", s.at(group.Pos()))
			}
		}
	}
}

func TestFilesStayShortEnoughToRead(t *testing.T) {
	const most = 600
	for _, s := range sources(t) {
		if lines := s.set.Position(s.file.FileEnd).Line; lines > most {
			t.Errorf("%s has %d lines: split it by idea", s.path, lines)
		}
	}
}

func TestPackagesSayWhatTheyAre(t *testing.T) {
	documented := map[string]bool{}
	for _, s := range sources(t) {
		dir := filepath.ToSlash(filepath.Dir(s.path))
		documented[dir] = documented[dir] || s.file.Doc != nil
	}
	for dir, ok := range documented {
		if !ok && dir != "." {
			t.Errorf("package %s has no comment: say what it does, promises and does not do", dir)
		}
	}
}

// Another team points the same programs at another database with another
// definition, so no code may know a name of the first one's.
func TestCodeKnowsNoNameOfTheFirstUsersDatabase(t *testing.T) {
	// Names that any schema could have, or that are words of our own as well.
	common := []string{"created_at", "updated_at", "createdAt", "updatedAt", "entityId", "entityType", "features_exact", "sample_weight"}

	text, err := os.ReadFile(filepath.Join(moduleRoot(t), "deploy", "dreamscape.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var definition struct {
		Tables map[string]struct {
			Columns map[string]any
		}
		Columns map[string]any
	}
	if err := yaml.Unmarshal(text, &definition); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	add := func(name string) {
		if distinctive(name) && !slices.Contains(common, name) {
			names[name] = true
		}
	}
	for table, content := range definition.Tables {
		add(table)
		for column := range content.Columns {
			add(column)
		}
	}
	for column := range definition.Columns {
		add(column)
	}
	for _, name := range []string{"recommendations", "favorites"} { // one word, and still theirs alone
		names[name] = true
	}
	if len(names) < 60 {
		t.Fatalf("%d names found: this test does not understand the definition any more", len(names))
	}

	word := regexp.MustCompile(`[A-Za-z_][A-Za-z0-9_]*`)
	for _, s := range sources(t) {
		if strings.HasPrefix(s.path, "internal/workload/") || strings.HasPrefix(s.path, "deploy/demo/") || strings.HasPrefix(s.path, "internal/bench/") {
			continue // they make that database
		}
		ast.Inspect(s.file, func(node ast.Node) bool {
			var said string
			switch n := node.(type) {
			case *ast.ImportSpec:
				return false
			case *ast.BasicLit:
				if n.Kind == token.STRING {
					said = n.Value
				}
			case *ast.Ident:
				said = n.Name
			}
			for _, w := range word.FindAllString(said, -1) {
				if names[w] {
					t.Errorf("%s: %s is a name of the first user's database: it belongs in a definition", s.at(node.Pos()), w)
				}
			}
			return true
		})
	}
}

// distinctive says whether a name is made of several words, so that it is
// unlikely to be meant in another sense.
func distinctive(name string) bool {
	for i, r := range name {
		if i > 0 && (r == '_' || unicode.IsUpper(r)) {
			return true
		}
	}
	return false
}
