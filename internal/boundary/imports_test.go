package boundary_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "dreamfeed"

// goPackage is what is used of the output of go list.
type goPackage struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Deps         []string
}

// packages lists the module's packages.
func packages(t *testing.T) []goPackage {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,TestImports,XTestImports,Deps", module+"/...")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	var list []goPackage
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("read the output of go list: %v", err)
		}
		list = append(list, p)
	}
	if len(list) < 10 {
		t.Fatalf("go list names %d packages: this test does not see the module", len(list))
	}
	return list
}

// within says whether a package is, or lies below, one of the paths of the module.
func within(path string, parents ...string) bool {
	for _, parent := range parents {
		if full := module + "/" + parent; path == full || strings.HasPrefix(path, full+"/") {
			return true
		}
	}
	return false
}

// testKit are packages that no program may contain.
var testKit = []string{
	"internal/alloctest", "internal/certtest", "internal/natstest", "internal/pgtest", "internal/proctest", "internal/workload",
}

// allowed says whether one package of the module may import another.
func allowed(from, to string) bool {
	switch {
	case within(from, "cmd"):
		return !within(to, "cmd") && !within(to, testKit...)
	case within(from, "deploy/demo"):
		return within(to, "internal")
	case within(from, "internal/bench"):
		// It reads the store as other programs do, knows the definition of the dataset,
		// and writes the dataset's rows alone.
		return within(to, "internal", "featurestore", "snapshot/parquetfile") || to == module+"/deploy"
	case within(from, testKit...):
		return within(to, "internal")
	case within(to, testKit...):
		return false
	case within(from, "cdc"):
		return within(to, "cdc", "internal")
	case within(from, "featurestore"):
		return within(to, "featurestore", "internal")
	case within(from, "labels"):
		return within(to, "labels", "internal")
	case within(from, "snapshot/report"):
		return within(to, "snapshot/report")
	case within(from, "snapshot/pit"):
		return within(to, "snapshot/pit", "labels", "internal")
	case within(from, "snapshot"):
		return within(to, "snapshot", "labels", "internal")
	case from == module+"/internal/cli":
		return within(to, "internal") || to == module+"/deploy" // the default definition is embedded there
	case within(from, "internal"):
		return within(to, "internal")
	}
	return false
}

func TestRulesTellAllowedEdgesFromForbiddenOnes(t *testing.T) {
	tests := []struct {
		name     string
		from, to string
		want     bool
	}{
		{"a program knows every part", "cmd/ingest", "featurestore", true},
		{"a part knows what is shared", "cdc", "internal/change", true},
		{"the dataset knows labels", "snapshot", "labels", true},
		{"the source does not know the store", "cdc", "featurestore", false},
		{"the store does not know the source", "featurestore", "cdc", false},
		{"the dataset does not know the store", "snapshot/pit", "featurestore", false},
		{"labels know no dataset", "labels", "snapshot", false},
		{"what is shared knows no part", "internal/change", "cdc", false},
		{"a like-named package is another", "cdc", "internalities", false},
		{"no program holds the test kit", "cmd/ingest", "internal/pgtest", false},
		{"the benchmark starts throw-away servers", "internal/bench", "internal/pgtest", true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := allowed(module+"/"+test.from, module+"/"+test.to); got != test.want {
				t.Errorf("allowed is %v, want %v", got, test.want)
			}
		})
	}
}

func TestPackagesImportOnlyWhatTheDesignAllows(t *testing.T) {
	for _, p := range packages(t) {
		for _, to := range p.Imports {
			if strings.HasPrefix(to, module+"/") && !allowed(p.ImportPath, to) {
				t.Errorf("%s imports %s, which DESIGN §1 does not allow", p.ImportPath, to)
			}
		}
	}
}

// Tests of a part may use the test kit, but no sibling either: what needs
// several parts is tested from cmd or internal/cases.
func TestTestsOfAPartDoNotReachForItsSiblings(t *testing.T) {
	exceptions := [][2]string{
		// The store's tests show that its views are what the join reads.
		{module + "/featurestore", module + "/snapshot/pit"},
		// The join's oracle over plain changes is held against real stores too.
		{module + "/snapshot/pit", module + "/featurestore"},
	}
	for _, p := range packages(t) {
		// internal/cases holds nothing but tests of source and store together: they
		// reach into both, as a test of the program could not.
		if within(p.ImportPath, "cmd", "internal/boundary", "internal/cases") {
			continue
		}
		for _, to := range slices.Concat(p.TestImports, p.XTestImports) {
			if !within(to, "cdc", "featurestore", "labels", "snapshot", "cmd") || allowed(p.ImportPath, to) ||
				slices.Contains(exceptions, [2]string{p.ImportPath, to}) {
				continue
			}
			t.Errorf("a test of %s imports %s: test what needs both from cmd or internal/cases", p.ImportPath, to)
		}
	}
}

// What a part must not know is out of its reach, not merely out of its imports.
func TestPartsDoNotDependOnTechnologyThatIsNotTheirs(t *testing.T) {
	const (
		postgres = "github.com/jackc/"
		nats     = "github.com/nats-io/"
		badger   = "github.com/dgraph-io/"
		parquet  = "github.com/parquet-go/"
		plot     = "gonum.org/"
	)
	rules := map[string][]string{
		"cdc":              {badger, parquet, plot},
		"featurestore":     {postgres, nats, parquet, plot},
		"labels":           {postgres, nats, badger, parquet, plot},
		"snapshot":         {postgres, nats, badger},
		"internal/change":  {postgres, nats, badger, parquet, plot},
		"internal/row":     {postgres, nats, badger, parquet, plot},
		"internal/history": {postgres, nats, badger, parquet, plot},
		"cmd/snapshot":     {postgres, nats},
	}
	seen := map[string]bool{}
	for _, p := range packages(t) {
		for area, forbidden := range rules {
			if !within(p.ImportPath, area) {
				continue
			}
			seen[area] = true
			for _, dep := range p.Deps {
				for _, technology := range forbidden {
					if strings.HasPrefix(dep, technology) {
						t.Errorf("%s depends on %s", p.ImportPath, dep)
					}
				}
			}
		}
	}
	for area := range rules {
		if !seen[area] {
			t.Errorf("there is no package %s: the rule on it watches nothing", area)
		}
	}
}

// Labels are pure functions: nothing they import directly can do I/O.
func TestLabelsDoNoIO(t *testing.T) {
	for _, p := range packages(t) {
		if !within(p.ImportPath, "labels") {
			continue
		}
		for _, to := range p.Imports {
			if root, _, _ := strings.Cut(to, "/"); slices.Contains([]string{"os", "net", "io", "database", "syscall", "log"}, root) {
				t.Errorf("%s imports %s", p.ImportPath, to)
			}
		}
	}
}
