package tests

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// Nothing here can start containers; that the file says what docs/security.md says of it can be read.
func TestDockerComposeStartsNoDoorForBrowsersUnlessItIsAskedFor(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(docsRoot, "docker-compose.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Services map[string]struct {
			Image    string   `yaml:"image"`
			Ports    []string `yaml:"ports"`
			Profiles []string `yaml:"profiles"`
			Network  string   `yaml:"network_mode"`
		} `yaml:"services"`
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Services) < 5 {
		t.Fatalf("only %d services were found", len(file.Services))
	}
	for name, s := range file.Services {
		if strings.HasPrefix(s.Image, "temporalio/ui:") && !slices.Equal(s.Profiles, []string{"ui"}) {
			t.Errorf("%s starts without being asked for: profiles %v", name, s.Profiles)
		}
		if s.Network != "" {
			t.Errorf("%s is in the network %s", name, s.Network)
		}
		for _, p := range s.Ports {
			if !strings.HasPrefix(p, "127.0.0.1:") {
				t.Errorf("%s publishes %s beyond loopback", name, p)
			}
			if len(s.Profiles) == 0 && p != "127.0.0.1:7233:7233" {
				t.Errorf("%s publishes %s without being asked for", name, p)
			}
		}
	}
}
