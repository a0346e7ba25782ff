package corpus

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// ReleasedName is the name of the file that lists the versions of the corpus that a release holds, one a line: the version, and
// the SHA-256 of its manifest.
const ReleasedName = "RELEASED"

// Versions returns the versions of the corpus in a folder, the oldest first.
func Versions(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if number(e.Name()) == 0 {
			return nil, fmt.Errorf("%s is no version of the corpus: they are v1, v2, …", filepath.Join(dir, e.Name()))
		}
		all = append(all, e.Name())
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s holds no version of the corpus, so nothing would be tested", dir)
	}
	slices.SortFunc(all, func(a, b string) int { return number(a) - number(b) })
	return all, nil
}

// number is that of a version; 0 for what is none.
func number(version string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(version, "v"))
	if err != nil || fmt.Sprintf("v%d", n) != version {
		return 0
	}
	return n
}

// Released returns the versions that a release holds, with the SHA-256 of their manifests.
func Released(dir string) (map[string]string, error) {
	file := filepath.Join(dir, ReleasedName)
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for lines := bufio.NewScanner(strings.NewReader(string(text))); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(fields) != 2 || number(fields[0]) == 0 || len(fields[1]) != 64 {
			return nil, fmt.Errorf("%s has a line that is no version with the SHA-256 of its manifest: %q", file, lines.Text())
		}
		all[fields[0]] = fields[1]
	}
	return all, nil
}

// CheckFrozen returns an error if a version that a release holds has changed, or if a version is missing in the list although
// a later one exists. Read holds every file to its manifest, so the manifest's sum stands for all.
func CheckFrozen(dir string) error {
	released, err := Released(dir)
	if err != nil {
		return err
	}
	versions, err := Versions(dir)
	if err != nil {
		return err
	}
	var problems []error
	for version, want := range released {
		manifest := filepath.Join(dir, version, ManifestName)
		content, err := os.ReadFile(manifest)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			problems = append(problems, fmt.Errorf("%s is gone, and a release holds it: restore it from the release's tag; rotations of that release may still run", manifest))
		case err != nil:
			problems = append(problems, err)
		case sum(content) != want:
			problems = append(problems, fmt.Errorf("%s has changed, and a release holds it: restore %s from the release's tag, and put new histories into the next version (.ci/corpus v%d)",
				manifest, filepath.Join(dir, version), number(versions[len(versions)-1])+1))
		}
	}
	for _, v := range versions[:len(versions)-1] {
		if released[v] == "" {
			problems = append(problems, fmt.Errorf("%s is not in %s, and there is a later version: only the newest can be unreleased", filepath.Join(dir, v), ReleasedName))
		}
	}
	return errors.Join(problems...)
}
