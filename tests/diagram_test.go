package tests

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rekeyhq/rekey/rotation"
)

var updateDiagram = flag.Bool("update", false, "write the table of transitions in docs/architecture.md anew")

const (
	diagramBegin = "<!-- diagram: written by go test ./tests -run Diagram -update -->\n"
	diagramEnd   = "<!-- end of diagram -->\n"
)

// diagramTable is the table of transitions as docs/architecture.md has it.
func diagramTable() string {
	var b strings.Builder
	names := func(steps []rotation.Step) string {
		var all []string
		for _, s := range steps {
			all = append(all, "`"+string(s)+"`")
		}
		return strings.Join(all, ", ")
	}
	for _, c := range rotation.Commitments() {
		fmt.Fprintf(&b, "\nIn `%s`:\n\n| from | to | by | when |\n|---|---|---|---|\n", c)
		var same []rotation.Step // that only the commitment changes in
		var last rotation.Transition
		for _, tr := range rotation.Diagram() {
			if tr.In != c {
				continue
			}
			if len(tr.From) == 1 && slices.Equal(tr.From, tr.To) {
				same, last = append(same, tr.From...), tr
				continue
			}
			to := names(tr.To)
			if tr.Into != c {
				to += fmt.Sprintf(" in `%s`", tr.Into)
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", names(tr.From), to, tr.By, tr.Cause)
		}
		if len(same) > 0 {
			fmt.Fprintf(&b, "| %s | the same step in `%s` | %s | %s |\n", names(same), last.Into, last.By, last.Cause)
		}
	}
	return b.String() + "\n"
}

func TestTheDiagramInTheDocsIsThatOfTheCode(t *testing.T) {
	name := filepath.Join(docsRoot, "docs", "architecture.md")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begins := strings.Cut(string(text), diagramBegin)
	got, after, ends := strings.Cut(rest, diagramEnd)
	if !begins || !ends {
		t.Fatal("docs/architecture.md has no place for the diagram")
	}
	want := diagramTable()
	if *updateDiagram {
		if err := os.WriteFile(name, []byte(before+diagramBegin+want+diagramEnd+after), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("go test ./tests -run Diagram -update writes it anew (-code +docs):\n%s", diff)
	}
}
