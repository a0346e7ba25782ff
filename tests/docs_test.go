package tests

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/rotation"
)

const docsRoot = ".."

// docsPages returns the text of the pages at the root and of everything in docs, by name relative to the root.
func docsPages(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	read := func(name string) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		rel, err := filepath.Rel(docsRoot, name)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.ToSlash(rel)] = string(text)
	}
	for _, name := range []string{"README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"} {
		read(filepath.Join(docsRoot, name))
	}
	if err := filepath.WalkDir(filepath.Join(docsRoot, "docs"), func(name string, entry fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(name, ".md") {
			read(name)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func docsPage(t *testing.T, name string) string {
	t.Helper()
	text, ok := docsPages(t)[name]
	if !ok {
		t.Fatalf("there is no %s", name)
	}
	return text
}

// fence is a fenced block: what stands behind the fence, and its text.
type fence struct{ info, text string }

var (
	mdFence    = regexp.MustCompile("(?ms)^```([^\n]*)\n(.*?)^```[ \t]*$")
	codeSpan   = regexp.MustCompile("`([^`\n]+)`")
	mdLink     = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	mdHeading  = regexp.MustCompile(`(?m)^#{1,6} (.+)$`)
	flagName   = regexp.MustCompile(`(?:^|\s)--([a-z][a-z-]*)`)
	invocation = regexp.MustCompile(`^(?:[A-Z_]+=\S+ |(?:Do it|Run): )*(rekey-worker|rekey|go run \./starter|go run \./worker)(?:$|\s+([^|&;#]*))`)
)

func fences(text string) []fence {
	var all []fence
	for _, m := range mdFence.FindAllStringSubmatch(text, -1) {
		all = append(all, fence{strings.TrimSpace(m[1]), m[2]})
	}
	return all
}

// codeOf returns every code span and every line of a fenced block, but for what a program prints (text).
func codeOf(text string) []string {
	var all []string
	for _, b := range fences(text) {
		if b.info == "text" {
			continue
		}
		all = append(all, strings.Split(strings.ReplaceAll(b.text, "\\\n", " "), "\n")...)
	}
	for _, m := range codeSpan.FindAllStringSubmatch(mdFence.ReplaceAllString(text, ""), -1) {
		all = append(all, m[1])
	}
	return all
}

// mdAnchor is the name that GitHub gives a heading.
func mdAnchor(title string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(title) {
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			b.WriteRune(r)
		case r == ' ':
			b.WriteRune('-')
		}
	}
	return b.String()
}

func TestEveryLinkInTheDocsLeadsSomewhere(t *testing.T) {
	all, links := docsPages(t), 0
	for name, text := range all {
		for _, m := range mdLink.FindAllStringSubmatch(mdFence.ReplaceAllString(text, ""), -1) {
			target, fragment, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			links++
			to := name
			if target != "" {
				to = filepath.ToSlash(filepath.Join(filepath.Dir(name), target))
			}
			if _, err := os.Stat(filepath.Join(docsRoot, to)); err != nil {
				t.Errorf("%s links to %s, which is not there", name, m[1])
				continue
			}
			if fragment == "" {
				continue
			}
			var anchors []string
			for _, h := range mdHeading.FindAllStringSubmatch(mdFence.ReplaceAllString(all[to], ""), -1) {
				anchors = append(anchors, mdAnchor(h[1]))
			}
			if !slices.Contains(anchors, fragment) {
				t.Errorf("%s links to %s, but %s has no such heading", name, m[1], to)
			}
		}
	}
	if links < 10 {
		t.Errorf("only %d links were found", links)
	}
}

// cliProgram is what a command line takes: its flags by subcommand ("rotate", "store put"), those of the program itself
// under "".
type cliProgram map[string][]string

// readProgram finds the cobra commands and their flags in the source of a program, without building it: a function
// that makes commands defines the flags of these commands.
func readProgram(t *testing.T, folder, program string) cliProgram {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(docsRoot, folder, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no source in %s: %v", folder, err)
	}
	made := map[string]*cliCommands{}
	parents := map[string]string{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, declared := range parsed.Decls {
			if f, ok := declared.(*ast.FuncDecl); ok {
				c := readCommands(f)
				made[f.Name.Name] = c
				for _, child := range c.children {
					if name, _, _ := strings.Cut(c.uses[0], " "); name != program {
						parents[child] = name + " "
					}
				}
			}
		}
	}
	p := cliProgram{}
	for function, c := range made {
		for _, use := range c.uses {
			if name, _, _ := strings.Cut(use, " "); name == program {
				p[""] = append(p[""], c.flags...)
			} else if name != "" {
				p[parents[function]+name] = append(p[parents[function]+name], c.flags...)
			}
		}
	}
	return p
}

// cliCommands is what one function makes: commands, their flags, and below the first of them the commands of other
// functions.
type cliCommands struct{ uses, flags, children []string }

var upper = regexp.MustCompile(`([a-z])([A-Z])`)

func readCommands(f *ast.FuncDecl) *cliCommands {
	var uses, flags, children []string
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.KeyValueExpr:
			if k, ok := n.Key.(*ast.Ident); ok && k.Name == "Use" {
				uses = append(uses, stringLiteral(n.Value))
			}
		case *ast.CompositeLit:
			// The table of decisions: {rotation.ExtendGrace, "Keep …", …} is the command extend-grace.
			if len(n.Elts) > 1 && f.Name.Name == "decisions" {
				if kind, ok := n.Elts[0].(*ast.SelectorExpr); ok {
					uses = append(uses, strings.ToLower(upper.ReplaceAllString(kind.Sel.Name, "$1-$2"))+" KEY")
				}
			}
		case *ast.CallExpr:
			s, ok := n.Fun.(*ast.SelectorExpr)
			switch {
			case ok && len(n.Args) > 2 && strings.Contains(s.Sel.Name, "Var"):
				flags = append(flags, stringLiteral(n.Args[1]))
			case ok && s.Sel.Name == "AddCommand":
				for _, arg := range n.Args {
					if call, ok := arg.(*ast.CallExpr); ok {
						if of, ok := call.Fun.(*ast.SelectorExpr); ok {
							children = append(children, of.Sel.Name)
						}
					}
				}
			}
		}
		return true
	})
	if len(uses) == 0 {
		children = nil
	}
	return &cliCommands{uses, flags, children}
}

// stringLiteral is the text of a string literal; empty if e is none.
func stringLiteral(e ast.Expr) string {
	if l, ok := e.(*ast.BasicLit); ok && l.Kind == token.STRING {
		if text, err := strconv.Unquote(l.Value); err == nil {
			return text
		}
	}
	return ""
}

// branches reports whether a command has commands below it.
func (p cliProgram) branches(command string) bool {
	for c := range p {
		if strings.HasPrefix(c, command+" ") {
			return true
		}
	}
	return false
}

// wrong says what a line of code mentions that the program does not have; empty if nothing.
func (p cliProgram) wrong(name, arguments string) string {
	words := strings.Fields(arguments)
	command := ""
	for i, w := range words {
		if w[0] >= 'a' && w[0] <= 'z' && len(p) > 1 && (i == 0 || !strings.HasPrefix(words[i-1], "--")) {
			command = w
			if i+1 < len(words) && !strings.HasPrefix(words[i+1], "-") && p.branches(w) {
				command += " " + words[i+1]
			}
			break
		}
	}
	if _, ok := p[command]; !ok {
		return fmt.Sprintf("%s has no command %q", name, command)
	}
	for _, m := range flagName.FindAllStringSubmatch(" "+arguments, -1) {
		if f := m[1]; f != "help" && f != "version" && !slices.Contains(p[command], f) && !slices.Contains(p[""], f) {
			return fmt.Sprintf("%s %s has no flag --%s", name, command, f)
		}
	}
	return ""
}

func TestTheDocsMentionOnlyCommandsAndFlagsThatExist(t *testing.T) {
	programs := map[string]cliProgram{"rekey": readProgram(t, "starter", "rekey"), "rekey-worker": readProgram(t, "worker", "rekey-worker")}
	var known []string
	for _, p := range programs {
		for _, flags := range p {
			known = append(known, flags...)
		}
	}
	programs["rekey"]["completion"] = nil // cobra adds it
	seen := 0
	for name, text := range docsPages(t) {
		for _, line := range codeOf(text) {
			line = strings.TrimSpace(line)
			if m := flagName.FindStringSubmatch(line); strings.HasPrefix(line, "--") && !slices.Contains(known, m[1]) {
				t.Errorf("%s: neither program has a flag --%s", name, m[1])
			}
			if strings.HasPrefix(line, "docker ") || strings.Contains(line, "►") {
				continue
			}
			m := invocation.FindStringSubmatch(line)
			if m == nil || strings.Contains(line, "go build") {
				continue
			}
			seen++
			program := strings.NewReplacer("go run ./starter", "rekey", "go run ./worker", "rekey-worker").Replace(m[1])
			if what := programs[program].wrong(program, m[2]); what != "" {
				t.Errorf("%s: in `%s`: %s", name, line, what)
			}
		}
	}
	if seen < 20 {
		t.Errorf("only %d command lines were found", seen)
	}
}

func TestTheRunbookShowsEveryCommandFlagAndExitCode(t *testing.T) {
	text := docsPage(t, "docs/operating.md")
	for name, p := range map[string]cliProgram{"rekey": readProgram(t, "starter", "rekey"), "rekey-worker": readProgram(t, "worker", "rekey-worker")} {
		for command, flags := range p {
			if command != "" && !strings.Contains(text, "`"+name+" "+command) {
				t.Errorf("docs/operating.md does not show `%s %s`", name, command)
			}
			for _, f := range flags {
				if !strings.Contains(text, "--"+f) {
					t.Errorf("docs/operating.md does not show --%s of %s %s", f, name, command)
				}
			}
		}
	}
	source, err := os.ReadFile(filepath.Join(docsRoot, "starter", "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	codes := regexp.MustCompile("(?s)const exitCodes = `Exit codes:\n(.*?)`").FindSubmatch(source)
	if codes == nil {
		t.Fatal("starter/main.go has no text of exit codes any more")
	}
	if !strings.Contains(text, string(codes[1])) {
		t.Errorf("docs/operating.md does not hold the exit codes of rekey --help:\n%s", codes[1])
	}
}

// yamlFields returns the fields of every struct of rekey.yaml, by the struct's name.
func yamlFields(t *testing.T) map[string][]string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(docsRoot, "internal", "config", "file.go"), nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		if s, ok := spec.Type.(*ast.StructType); ok {
			for _, f := range s.Fields.List {
				if f.Tag != nil {
					name, _, _ := strings.Cut(reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("yaml"), ",")
					all[spec.Name.Name] = append(all[spec.Name.Name], name)
				}
			}
		}
		return true
	})
	if len(all) < 5 {
		t.Fatalf("only %d structs with yaml fields in internal/config/file.go", len(all))
	}
	return all
}

// mdTable returns the cells of the table that follows `<!-- name -->`, without its head.
func mdTable(text, name string) [][]string {
	_, rest, found := strings.Cut(text, "<!-- "+name+" -->")
	if !found {
		return nil
	}
	var rows [][]string
	for line := range strings.Lines(strings.TrimLeft(rest, "\n")) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			break
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.Trim(strings.TrimSpace(cells[i]), "`")
		}
		rows = append(rows, cells)
	}
	return rows[min(2, len(rows)):]
}

func TestTheConfigurationPageDescribesEveryFieldAndNoOther(t *testing.T) {
	text := docsPage(t, "docs/configuration.md")
	for name, want := range yamlFields(t) {
		var got []string
		for _, row := range mdTable(text, "fields: "+name) {
			got = append(got, row[0])
			if len(row) < 4 || row[3] == "" {
				t.Errorf("docs/configuration.md says nothing about %s of %s", row[0], name)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the table of %s in docs/configuration.md (-code +docs):\n%s", name, diff)
		}
	}
}

func TestTheTiersAndDefaultsInTheDocsAreThoseOfTheCode(t *testing.T) {
	text := docsPage(t, "docs/configuration.md")
	var want [][]string
	for _, tier := range rotation.Tiers() {
		p := rotation.Preset(tier)
		want = append(want, []string{string(tier), p.Period.String(), p.Grace.String(), p.MaxGrace.String()})
	}
	if diff := cmp.Diff(want, mdTable(text, "tiers")); diff != "" {
		t.Errorf("the table of tiers (-code +docs):\n%s", diff)
	}
	p := rotation.Preset(rotation.Production)
	defaults := map[string]string{
		"quiet": p.Quiet.String(), "unknown_use": string(p.UnknownUse), "approve": strconv.FormatBool(p.Approve), "soak": p.Soak.String(),
		"patience": p.Patience.String(), "recheck": p.Recheck.String(), "step_timeout": p.StepTimeout.String(),
	}
	for _, row := range mdTable(text, "fields: filePolicy") {
		if want, ok := defaults[row[0]]; ok && row[2] != want {
			t.Errorf("the default of %s is %s; the docs say %s", row[0], want, row[2])
		}
	}
}

func TestTheExamplesOfConfigurationsAreWhatTheySayTheyAre(t *testing.T) {
	complete, broken := 0, 0
	for name, text := range docsPages(t) {
		all := fences(text)
		for i, b := range all {
			switch b.info {
			case "yaml complete":
				complete++
				if _, err := config.Parse("rekey.yaml", []byte(b.text)); err != nil {
					t.Errorf("%s: an example that calls itself complete is refused:\n%v\n%s", name, err, b.text)
				}
			case "yaml broken":
				// The next block is what rekey says about it.
				broken++
				_, err := config.Parse("rekey.yaml", []byte(b.text))
				if err == nil || i+1 == len(all) || strings.TrimSpace(all[i+1].text) != err.Error() {
					t.Errorf("%s: rekey says about the broken example:\n%v", name, err)
				}
			}
		}
	}
	if complete < 2 || broken < 1 {
		t.Errorf("%d complete and %d broken examples were found", complete, broken)
	}
}

func TestTheArchitecturePageExplainsEveryPhaseInOrder(t *testing.T) {
	text := docsPage(t, "docs/architecture.md")
	_, section, found := strings.Cut(text, "\n## Phase by phase\n")
	if !found {
		t.Fatal("docs/architecture.md has no section `Phase by phase`")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var got []rotation.Phase
	for _, m := range regexp.MustCompile("(?m)^### `([a-z-]+)`$").FindAllStringSubmatch(section, -1) {
		got = append(got, rotation.Phase(m[1]))
	}
	if diff := cmp.Diff(rotation.Phases(), got); diff != "" {
		t.Errorf("the phases (-code +docs):\n%s", diff)
	}
}
