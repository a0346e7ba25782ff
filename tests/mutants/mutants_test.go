package mutants

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	// envMutants is how many breakages are tried; empty: none.
	envMutants = "REKEY_MUTANTS"
	// envMutant is one of them, as a run prints it.
	envMutant = "REKEY_MUTANT"
)

const root = "../.."

// rooms are what is broken, and the packages whose tests should notice, the quickest first.
var rooms = []struct {
	folder  string
	notices []string
}{
	{"workflows", []string{"./workflows", "./tests/model", "./tests/replay", "./tests/faults"}},
	{"activities", []string{"./activities", "./workflows", "./tests/faults"}},
	{"rotation", []string{"./rotation", "./activities", "./workflows"}},
	{"rotation/signed", []string{"./rotation/signed", "./workflows"}},
	{"store/googlesm", []string{"./store/googlesm", "./tests/faults"}},
	{"store/awssm", []string{"./store/awssm", "./tests/faults"}},
	{"store/local", []string{"./store/local"}},
	{"worker/triggers", []string{"./worker/triggers"}},
}

func noticing(m Mutant) []string {
	for _, r := range rooms {
		if filepath.Dir(m.File) == r.folder {
			return r.notices
		}
	}
	return nil
}

func all(t *testing.T) (mutants []Mutant) {
	t.Helper()
	for _, r := range rooms {
		files, err := Files(root, r.folder)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			more, err := Find(root, f)
			if err != nil {
				t.Fatal(err)
			}
			mutants = append(mutants, more...)
		}
	}
	return mutants
}

// TestSomebodyNoticesWhatIsBroken breaks the code in random places.
func TestSomebodyNoticesWhatIsBroken(t *testing.T) {
	mutants := all(t)
	rand.Shuffle(len(mutants), func(i, j int) { mutants[i], mutants[j] = mutants[j], mutants[i] })
	wanted := 0
	switch one, text := os.Getenv(envMutant), os.Getenv(envMutants); {
	case one != "":
		var found []Mutant
		for _, m := range mutants {
			if m.String() == one {
				found = append(found, m)
			}
		}
		if mutants, wanted = found, 1; len(found) == 0 {
			t.Fatalf("%s=%q is not a breakage of this code; a run prints them", envMutant, one)
		}
	case text != "":
		var err error
		if wanted, err = strconv.Atoi(text); err != nil || wanted < 1 {
			t.Fatalf("%s=%q: expected how many breakages to try", envMutants, text)
		}
	default:
		t.Skipf("no breakage is tried of %d: set %s=60 to try so many, which takes about an hour", len(mutants), envMutants)
	}
	var tried, noticed int
	for _, m := range mutants {
		if tried == wanted {
			break
		}
		who, compiles := notice(t, m)
		switch {
		case !compiles: // a variable that nobody uses any more
			continue
		case who == "":
			t.Logf("NOT NOTICED %s: %s", m, m.What)
		default:
			noticed++
			t.Logf("%s notices %s: %s", who, m, m.What)
		}
		tried++
	}
	fmt.Printf("mutants: %d of %d noticed\n", noticed, tried)
}

// notice returns the package whose tests fail with the breakage; empty if none does.
func notice(t *testing.T, m Mutant) (who string, compiles bool) {
	t.Helper()
	broken, err := Apply(root, m)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file, err := filepath.Abs(filepath.Join(root, m.File))
	if err != nil {
		t.Fatal(err)
	}
	overlay := filepath.Join(dir, "overlay.json")
	text, err := json.Marshal(map[string]map[string]string{"Replace": {file: filepath.Join(dir, "broken.go")}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"broken.go": broken, "overlay.json": text} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, pkg := range noticing(m) {
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
		cmd := exec.CommandContext(ctx, "go", "test", "-overlay", overlay, "-vet=off", "-count=1", "-failfast", "-timeout=10m", pkg)
		cmd.Dir = root
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		err := cmd.Run()
		cancel()
		if strings.Contains(out.String(), "[build failed]") {
			return "", false
		}
		if err != nil {
			return pkg, true
		}
	}
	return "", true
}

func TestABreakageIsOneChangeOfTheTree(t *testing.T) {
	dir := t.TempDir()
	const before = `package p

func (r *runner) f(a, b int) int {
	r.note = "x"
	if a < b && b > 0 {
		r.call()
	}
	switch {
	case a == 1:
		return 2
	}
	return 3
}
`
	if err := os.WriteFile(filepath.Join(dir, "p.go"), []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	mutants, err := Find(dir, "p.go")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"p.go:(*runner).f:drop-0": `	r.note = "x"`, "p.go:(*runner).f:drop-1": "		r.call()", "p.go:(*runner).f:never-0": "if (a < b && b > 0) && false {",
		"p.go:(*runner).f:never-1": "case a == 1 && false:", "p.go:(*runner).f:opposite-0": "if a < b || b > 0 {", "p.go:(*runner).f:opposite-1": "if a >= b && b > 0 {",
		"p.go:(*runner).f:opposite-2": "if a < b && b <= 0 {", "p.go:(*runner).f:opposite-3": "case a != 1:",
	}
	for _, m := range mutants {
		line, known := want[m.String()]
		after, err := Apply(dir, m)
		if err != nil || !known {
			t.Errorf("%s: %v, expected %v", m, err, known)
			continue
		}
		if drops := m.Kind == "drop"; strings.Contains(string(after), line) == drops || string(after) == before {
			t.Errorf("%s became\n%s", m, after)
		}
		delete(want, m.String())
	}
	if len(want) > 0 {
		t.Errorf("not found: %v", want)
	}
	if _, err := Apply(dir, Mutant{File: "p.go", Function: "g", Kind: "drop"}); err == nil {
		t.Error("a breakage that is none was made")
	}
}
