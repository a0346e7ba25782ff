package corpus

import (
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// testdata is the corpus.
const testdata = "../testdata"

// small copies two files of the corpus, and makes a manifest of them.
func small(t *testing.T, dir string) (m Manifest) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"trigger.json.gz", "dispatch.json.gz"} {
		content, err := os.ReadFile(filepath.Join(testdata, "v1", name))
		if err != nil {
			t.Fatal(err)
		}
		m.Files = append(m.Files, put(t, dir, name, content))
	}
	if err := m.Write(dir); err != nil {
		t.Fatal(err)
	}
	return m
}

func put(t *testing.T, dir, name string, content []byte) File {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := NewFile(name, "", content)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func zipped(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write([]byte(text))
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestADamagedFileSaysWhichOneAndWhatToDo(t *testing.T) {
	// Where the damage is in the history itself, the manifest says that it belongs there: somebody made it anew.
	for name, c := range map[string]struct {
		damage func(t *testing.T, dir string, m *Manifest, content []byte) []byte
		says   string
	}{
		"another sum": {func(_ *testing.T, _ string, _ *Manifest, content []byte) []byte {
			content[len(content)/2]++
			return content
		}, "its SHA-256 is "},
		"truncated": {func(_ *testing.T, _ string, m *Manifest, content []byte) []byte {
			content = content[:len(content)/2]
			m.Files[1].SHA256 = sum(content)
			return content
		}, "it ends in the middle, or is not whole: unexpected EOF"},
		"not compressed": {func(_ *testing.T, _ string, m *Manifest, _ []byte) []byte {
			m.Files[1].SHA256 = sum([]byte("{}"))
			return []byte("{}")
		}, "it is not compressed by gzip"},
		"empty": {func(_ *testing.T, _ string, m *Manifest, _ []byte) []byte {
			m.Files[1].SHA256 = sum(nil)
			return nil
		}, "it is not compressed by gzip: EOF"},
		"broken JSON": {func(t *testing.T, _ string, m *Manifest, _ []byte) []byte {
			content := zipped(t, `{"events":[{"eventId":`)
			m.Files[1].SHA256 = sum(content)
			return content
		}, "line 1 is no history in JSON"},
		"a field that no history has": {func(t *testing.T, _ string, m *Manifest, _ []byte) []byte {
			content := zipped(t, `{"happenings":[]}`)
			m.Files[1].SHA256 = sum(content)
			return content
		}, "line 1 is no history in JSON"},
		"no event": {func(t *testing.T, _ string, m *Manifest, _ []byte) []byte {
			content := zipped(t, `{}`)
			m.Files[1].SHA256 = sum(content)
			return content
		}, "line 1 is a history without events"},
		"nothing in it": {func(t *testing.T, _ string, m *Manifest, _ []byte) []byte {
			content := zipped(t, "")
			m.Files[1].SHA256 = sum(content)
			return content
		}, "it holds no history"},
		"other counts": {func(_ *testing.T, _ string, m *Manifest, content []byte) []byte {
			m.Files[1].Tasks++
			return content
		}, "workflow tasks, and MANIFEST.json says "},
		"missing": {func(t *testing.T, dir string, _ *Manifest, _ []byte) []byte {
			if err := os.Remove(filepath.Join(dir, "trigger.json.gz")); err != nil {
				t.Fatal(err)
			}
			return nil
		}, "it is missing, and MANIFEST.json names it"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "v1")
			m := small(t, dir)
			file := filepath.Join(dir, "trigger.json.gz")
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			content = c.damage(t, dir, &m, content)
			if err := m.Write(dir); err != nil {
				t.Fatal(err)
			}
			if name != "missing" {
				if err := os.WriteFile(file, content, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			good, err := Read(dir)
			var damaged *DamagedError
			if !errors.As(err, &damaged) || damaged.File != file || !strings.Contains(damaged.What, c.says) || !strings.Contains(err.Error(), "Restore it: git checkout -- "+file) {
				t.Errorf("it says %v, want %q of %s", err, c.says, file)
			}
			if len(good) != 1 || good[0].Name != "dispatch.json.gz" {
				t.Errorf("the file beside it is not read: %v", good)
			}
		})
	}
}

func TestAManifestThatIsDamagedOrDoesNotFitSaysSo(t *testing.T) {
	dir := t.TempDir()
	small(t, dir)
	put(t, dir, "another.json.gz", zipped(t, `{"events":[{"eventId":"1"}]}`))
	if good, err := Read(dir); err == nil || !strings.Contains(err.Error(), "another.json.gz is not in MANIFEST.json: remove it, or run `make corpus`") || len(good) != 2 {
		t.Errorf("a file that is not listed: %v", err)
	}
	for text, says := range map[string]string{
		`{"files":[`:       "is damaged: it is no manifest in JSON",
		`{"fils":[]}`:      "is damaged: it is no manifest in JSON",
		`{"files":[]}`:     "is damaged: it names no file",
		"<<<<<<< a merge":  "is damaged: it is no manifest in JSON",
		`{"files":["a"]} `: "is damaged: it is no manifest in JSON",
	} {
		if err := os.WriteFile(filepath.Join(dir, ManifestName), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(dir); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := Read(t.TempDir()); err == nil || !strings.Contains(err.Error(), "MANIFEST.json is damaged: it cannot be read") {
		t.Errorf("no manifest: %v", err)
	}
}

// release notes in a folder of a test that a release holds the newest version, as .ci/corpus does it for the real one.
func release(t *testing.T, dir string) (string, error) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "bash", "../../../.ci/corpus", "release", dir).CombinedOutput()
	return string(out), err
}

func TestAReleasedVersionIsFrozen(t *testing.T) {
	dir := t.TempDir()
	v1, v2 := filepath.Join(dir, "v1"), filepath.Join(dir, "v2")
	frozen := func(want string) {
		t.Helper()
		if err := CheckFrozen(dir); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("it says %v, want %q", err, want)
		}
	}
	m := small(t, v1)
	frozen("") // nothing is released: the only version may be made anew
	if out, err := release(t, dir); err != nil || !strings.HasPrefix(out, "v1 ") {
		t.Fatalf("%v: %s", err, out)
	}
	frozen("")
	if out, err := release(t, dir); err == nil || !strings.Contains(out, "has v1 already") {
		t.Errorf("v1 is released twice: %s", out)
	}
	small(t, v2)
	frozen("")

	// Made anew, with histories that today's code replays: nothing else would notice.
	m.Files = m.Files[:1]
	if err := m.Write(v1); err != nil {
		t.Fatal(err)
	}
	frozen("v1/MANIFEST.json has changed, and a release holds it: restore " + v1 + " from the release's tag, and put new histories into the next version (.ci/corpus v3)")
	small(t, v1)
	frozen("")

	if err := os.RemoveAll(v1); err != nil {
		t.Fatal(err)
	}
	frozen("v1/MANIFEST.json is gone, and a release holds it")
	small(t, v1)

	small(t, filepath.Join(dir, "v3"))
	frozen("v2 is not in RELEASED, and there is a later version")
}

func TestTheListOfReleasesIsReadStrictly(t *testing.T) {
	dir := t.TempDir()
	small(t, filepath.Join(dir, "v1"))
	for text, want := range map[string]string{
		"v1\n": "has a line that is no version with the SHA-256 of its manifest", "v1 abc\n": "has a line", "one " + strings.Repeat("a", 64) + "\n": "has a line",
		"# a comment\n\n": "",
	} {
		if err := os.WriteFile(filepath.Join(dir, ReleasedName), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := CheckFrozen(dir); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "v01"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Versions(dir); err == nil || !strings.Contains(err.Error(), "v01 is no version of the corpus") {
		t.Errorf("%v", err)
	}
	if _, err := Versions(t.TempDir()); err == nil || !strings.Contains(err.Error(), "holds no version of the corpus") {
		t.Errorf("%v", err)
	}
}

func TestAReleasedVersionIsNotMadeAnew(t *testing.T) {
	dir := t.TempDir()
	small(t, filepath.Join(dir, "v1"))
	if out, err := release(t, dir); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for version, want := range map[string]string{"v1": "A release holds " + dir + "/v1: make the next version.", "one": "one is no version: v1, v2", "v02": "v02 is no version"} {
		out, err := exec.CommandContext(t.Context(), "bash", "../../../.ci/corpus", version, dir).CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v: %s", version, err, out)
		}
	}
}
