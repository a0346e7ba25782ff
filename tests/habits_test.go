package tests

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// switches returns every REKEY_* variable that a Go file has in a string, or .ci/run uses. Those of which a test speaks to
// itself in another process (REKEY_TEST_…, REKEY_E2E_…) are nobody's switch.
func switches(t *testing.T) []string {
	t.Helper()
	name := regexp.MustCompile(`\bREKEY_[A-Z0-9_]*[A-Z0-9]\b`)
	found := map[string]bool{}
	err := filepath.WalkDir(docsRoot, func(file string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == ".git" || entry.Name() == "testdata"):
			return filepath.SkipDir
		case filepath.Base(file) == "run" && filepath.Base(filepath.Dir(file)) == ".ci":
			text, err := os.ReadFile(file)
			for _, v := range name.FindAllString(string(text), -1) {
				found[v] = true
			}
			return err
		case !strings.HasSuffix(file, ".go") || strings.HasPrefix(filepath.ToSlash(file), docsRoot+"/tests/habits_test"):
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
				text, _ := strconv.Unquote(l.Value)
				for _, v := range name.FindAllString(text, -1) {
					found[v] = true
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for v := range found {
		if !strings.HasPrefix(v, "REKEY_TEST_") && !strings.HasPrefix(v, "REKEY_E2E_") {
			all = append(all, v)
		}
	}
	slices.Sort(all)
	return all
}

func TestTheTableOfSwitchesHasEveryOneAndNoOther(t *testing.T) {
	var got []string
	for _, row := range mdTable(rootPage(t, "CONTRIBUTING.md"), "switches") {
		got = append(got, row[0])
	}
	slices.Sort(got)
	want := switches(t)
	if len(want) < 10 {
		t.Errorf("only %d switches were found in the code", len(want))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the table of switches in CONTRIBUTING.md (-code +docs):\n%s", diff)
	}
}

// rootPage is the text of a file at the root.
func rootPage(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(docsRoot, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestMakeKnowsEveryStepOfCI(t *testing.T) {
	run := rootPage(t, ".ci/run")
	var want []string
	for _, m := range regexp.MustCompile(`(?m)^step_([a-z0-9]+)\(\) \{`).FindAllStringSubmatch(run, -1) {
		want = append(want, m[1])
	}
	listed := func(text, pattern string) []string {
		m := regexp.MustCompile(pattern).FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("nothing fits %s", pattern)
		}
		return strings.Fields(m[1])
	}
	got := append(listed(run, `(?m)^checks=\((.*)\)$`), listed(run, `(?m)^writers=\((.*)\)$`)...)
	made := listed(rootPage(t, "Makefile"), `(?m)^STEPS = (.*)$`)
	slices.Sort(want)
	slices.Sort(got)
	slices.Sort(made)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the steps that .ci/run runs (-functions +lists):\n%s", diff)
	}
	if diff := cmp.Diff(want, made); diff != "" {
		t.Errorf("the steps that make knows (-functions +Makefile):\n%s", diff)
	}
}

func TestDecisionsAreNumberedAndSayContextDecisionConsequences(t *testing.T) {
	n := 0
	for name, text := range docsPages(t) {
		file, isDecision := strings.CutPrefix(name, "docs/decisions/")
		if !isDecision || file == "README.md" {
			continue
		}
		n++
		if !regexp.MustCompile(`^\d{4}-[a-z0-9-]+\.md$`).MatchString(file) || !strings.HasPrefix(text, "# "+file[:4]+" ") {
			t.Errorf("%s: its name, or its title, has no number", name)
		}
		for _, section := range []string{"## Context", "## Decision", "## Consequences"} {
			if !strings.Contains(text, "\n"+section+"\n") {
				t.Errorf("%s has no section %s", name, section)
			}
		}
		if index := docsPage(t, "docs/decisions/README.md"); !strings.Contains(index, "("+file+")") {
			t.Errorf("docs/decisions/README.md does not name %s", file)
		}
	}
	if n < 6 {
		t.Errorf("only %d decisions were found", n)
	}
}

// Folders and files in code spans are there, and so are the names of our packages' that the docs mention.
func TestPlacesAndNamesOfTheCodeInTheDocsExist(t *testing.T) {
	place := regexp.MustCompile(`^(?:\./)?((?:` + strings.Join(topLevel, "|") + `|\.ci)/[a-zA-Z0-9_./-]+)$`)
	ident := regexp.MustCompile(`^(secret|rotation|provider|store|client|workflows|activities|providertest|storetest)\.([A-Z]\w*)$`)
	folders := map[string]string{"providertest": "provider/providertest", "storetest": "store/storetest"}
	seen := 0
	for name, text := range docsPages(t) {
		for _, span := range codeOf(text) {
			if m := place.FindStringSubmatch(span); m != nil && !strings.HasSuffix(m[1], "...") {
				seen++
				if _, err := os.Stat(filepath.Join(docsRoot, m[1])); err != nil && m[1] != "notify/notifytest" && !strings.HasPrefix(m[1], "keyring/") {
					t.Errorf("%s mentions %s, which is not there", name, span)
				}
			}
			if m := ident.FindStringSubmatch(span); m != nil {
				seen++
				folder := m[1]
				if f, ok := folders[folder]; ok {
					folder = f
				}
				if !declares(t, folder, m[2]) {
					t.Errorf("%s mentions %s, which is not there", name, span)
				}
			}
		}
	}
	if seen < 10 {
		t.Errorf("only %d places and names were found", seen)
	}
}

// declares reports whether a file of a folder declares a name at the top level.
func declares(t *testing.T, folder, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(docsRoot, folder, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		if parsed.Scope.Lookup(name) != nil {
			return true
		}
	}
	return false
}
