package corpus

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"

	"github.com/rekeyhq/rekey/workflows/replaytest"
)

// ManifestName is the name of a version's manifest.
const ManifestName = "MANIFEST.json"

// Manifest says what the files of a version are, and how they were made.
type Manifest struct {
	// Made says how all of them were.
	Made Provenance `json:"made"`
	// Files are in the order of their names.
	Files []File `json:"files"`
}

// Provenance says how histories were made.
type Provenance struct {
	// Command makes them anew.
	Command string `json:"command"`
	// Commit is that of the code that ran, Server and SDK are Temporal's versions.
	Commit string `json:"commit"`
	Server string `json:"server"`
	SDK    string `json:"sdk"`
	Go     string `json:"go"`
	Date   string `json:"date"`
}

// File is a file of the corpus: the runs of one workflow, and what must be in it.
type File struct {
	Name string `json:"file"`
	// Turn is the turn for which it was made; empty for a scene that one of the tests played.
	Turn   string `json:"turn,omitempty"`
	Runs   int    `json:"runs"`
	Events int    `json:"events"`
	// Tasks counts the workflow tasks that were completed.
	Tasks  int    `json:"tasks"`
	SHA256 string `json:"sha256"`
}

// History is a file with what is in it.
type History struct {
	File
	Runs []*historypb.History
}

// NewFile describes a file.
func NewFile(name, turn string, content []byte) (File, error) {
	runs, err := replaytest.Decode(content)
	if err != nil {
		return File{}, fmt.Errorf("%s: %w", name, err)
	}
	f := File{Name: name, Turn: turn, Runs: len(runs), SHA256: sum(content)}
	f.Events, f.Tasks = count(runs)
	return f, nil
}

func count(runs []*historypb.History) (events, tasks int) {
	for _, run := range runs {
		events += len(run.GetEvents())
		for _, e := range run.GetEvents() {
			if e.GetEventType() == enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED {
				tasks++
			}
		}
	}
	return events, tasks
}

func sum(content []byte) string {
	s := sha256.Sum256(content)
	return hex.EncodeToString(s[:])
}

// Write writes the manifest into a folder.
func (m Manifest) Write(dir string) error {
	slices.SortFunc(m.Files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	text, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, ManifestName), append(text, '\n'), 0o644) //nolint:gosec // it goes into the repository
}

// ReadManifest reads the manifest of a folder.
func ReadManifest(dir string) (m Manifest, err error) {
	file := filepath.Join(dir, ManifestName)
	text, err := os.ReadFile(file)
	if err != nil {
		return m, damaged(file, "it cannot be read: %v", err)
	}
	in := json.NewDecoder(bytes.NewReader(text))
	in.DisallowUnknownFields()
	if err := in.Decode(&m); err != nil {
		return m, damaged(file, "it is no manifest in JSON: %v", err)
	}
	if len(m.Files) == 0 {
		return m, damaged(file, "it names no file")
	}
	return m, nil
}

// DamagedError says which file of the corpus is damaged, and what to do.
type DamagedError struct{ File, What string }

func (d *DamagedError) Error() string {
	return fmt.Sprintf("%s is damaged: %s. Restore it: git checkout -- %s. Only if no release holds its version, `make corpus` can make it anew", d.File, d.What, d.File)
}

func damaged(file, format string, args ...any) error {
	return &DamagedError{file, fmt.Sprintf(format, args...)}
}

// Read reads a version, and holds it to its manifest. The error joins what is wrong with each file; the histories are those
// of the files with which nothing is.
func Read(dir string) (all []History, err error) {
	m, err := ReadManifest(dir)
	if err != nil {
		return nil, err
	}
	var problems []error
	listed := map[string]bool{ManifestName: true}
	for _, f := range m.Files {
		listed[f.Name] = true
		runs, err := f.read(filepath.Join(dir, f.Name))
		if err != nil {
			problems = append(problems, err)
			continue
		}
		all = append(all, History{f, runs})
	}
	files, err := os.ReadDir(dir)
	problems = append(problems, err)
	for _, f := range files {
		if !listed[f.Name()] {
			problems = append(problems, fmt.Errorf("%s is not in %s: remove it, or run `make corpus`, which writes both", filepath.Join(dir, f.Name()), ManifestName))
		}
	}
	return all, errors.Join(problems...)
}

func (f File) read(path string) ([]*historypb.History, error) {
	content, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, damaged(path, "it is missing, and %s names it", ManifestName)
	case err != nil:
		return nil, damaged(path, "it cannot be read: %v", err)
	case sum(content) != f.SHA256:
		return nil, damaged(path, "its SHA-256 is %s, and %s says %s", sum(content), ManifestName, f.SHA256)
	}
	runs, err := replaytest.Decode(content)
	if err != nil {
		return nil, damaged(path, "%v", err)
	}
	if events, tasks := count(runs); len(runs) != f.Runs || events != f.Events || tasks != f.Tasks {
		return nil, damaged(path, "it has %d runs with %d events and %d workflow tasks, and %s says %d, %d and %d",
			len(runs), events, tasks, ManifestName, f.Runs, f.Events, f.Tasks)
	}
	return runs, nil
}
