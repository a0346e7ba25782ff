package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	houseBegin = "<!-- house: written by go test ./tests -run House -update -->\n"
	houseEnd   = "<!-- end of house -->\n"
)

// houseTable is the list of rooms as docs/architecture.md has it.
func houseTable() string {
	var b strings.Builder
	b.WriteString("\n| room | what is in it | imports of ours | Temporal |\n|---|---|---|---|\n")
	for _, r := range house {
		may := strings.Fields(strings.Replace(r.may, everything, "EVERYTHING", 1))
		for i, m := range may {
			switch m {
			case "EVERYTHING":
				may[i] = "everything but programs and tests"
			case "self/...":
				may[i] = "its own"
			default:
				may[i] = "`" + m + "`"
			}
		}
		if r.standard {
			may = append(may, "nothing beside the standard library")
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", r.folder, r.is, strings.Join(may, ", "), r.temporal)
	}
	return b.String() + "\n"
}

func TestTheTableOfTheHouseInTheDocsIsThatOfTheRooms(t *testing.T) {
	name := filepath.Join(docsRoot, "docs", "architecture.md")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begins := strings.Cut(string(text), houseBegin)
	got, after, ends := strings.Cut(rest, houseEnd)
	if !begins || !ends {
		t.Fatal("docs/architecture.md has no place for the table of the house")
	}
	want := houseTable()
	if *updateDiagram {
		if err := os.WriteFile(name, []byte(before+houseBegin+want+houseEnd+after), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("go test ./tests -run House -update writes it anew (-code +docs):\n%s", diff)
	}
}

// Nothing here can build the image; that the build gets every folder that the programs are built from can be read.
func TestTheImageIsBuiltFromEveryRoomOfTheHouse(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(docsRoot, ".dockerignore"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	has := func(line string) bool {
		for _, l := range lines {
			if l == line {
				return true
			}
		}
		return false
	}
	for _, folder := range topLevel {
		if want := folder != "tests" && folder != "docs"; has("!"+folder) != want {
			t.Errorf(".dockerignore: !%s is there: %v", folder, !want)
		}
	}
	for _, file := range []string{"go.mod", "go.sum", "LICENSE", "NOTICE", ".ci/notice"} {
		if !has("!" + file) {
			t.Errorf(".dockerignore keeps %s out of the build", file)
		}
	}
}
