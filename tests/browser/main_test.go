// Package browser lets a person work with rekey in the stock Temporal UI: a real browser, the UI that the embedded
// server brings, and only what can be read and clicked there.
package browser

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// shared is what all tests share: one server, one cloud, one browser. Each test has keys of its own.
var shared *env

// envBrowser asks for these tests: they take a minute, on a busy machine two. REKEY_ARTIFACTS names a folder that gets their
// pictures.
const envBrowser = "REKEY_BROWSER"

// skipped says why the tests are skipped.
var skipped = noChromium

const noChromium = "no Chromium was found, so nobody can look at the Temporal UI: apt-get install chromium, or set REKEY_CHROMIUM=path"

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	flag.Parse()
	path, err := chromium()
	switch {
	case os.Getenv(envBrowser) == "":
		skipped = "these tests open a browser: set " + envBrowser + "=1 to run them (they need Chromium: apt-get install chromium)"
		return m.Run()
	case err != nil && os.Getenv("CI") == "true":
		fmt.Fprintln(os.Stderr, err)
		return 1
	case err != nil:
		return m.Run() // every test says why it is skipped
	}
	var stop func()
	if shared, stop, err = open(path); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer stop()
	return m.Run()
}

func needsBrowser(t *testing.T) {
	t.Helper()
	if shared == nil {
		t.Skip(skipped)
	}
}

// chromium finds the browser.
func chromium() (string, error) {
	if path := os.Getenv("REKEY_CHROMIUM"); path != "" {
		return exec.LookPath(path)
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New(noChromium)
}
