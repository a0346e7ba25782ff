package testenv

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/worker/adapters"
	"github.com/rekeyhq/rekey/worker/engine"
)

// SimOptions say what the simulated cloud is made of.
type SimOptions struct {
	// Scenario without a Dir gets a temporary one only for rekey.yaml, and so no local store.
	Scenario scenario.Options
	// Keys adds the keys, before rekey.yaml is written.
	Keys func(*scenario.Scenario) error
	// Edit changes the rekey.yaml of the scenario.
	Edit func(yaml string) string
}

// Sim is a simulated cloud, and the adapters that reach it.
type Sim struct {
	*scenario.Scenario
	// File is the rekey.yaml.
	File   string
	Config *config.Config
	Setup  *engine.Setup

	temporary string
}

// StartSim starts a simulated cloud; it ends with the test.
func StartSim(t testing.TB, o SimOptions) *Sim {
	t.Helper()
	s, err := openSim(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s
}

func openSim(o SimOptions) (s *Sim, err error) {
	s = &Sim{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	dir := o.Scenario.Dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "rekey-test-"); err != nil {
			return s, err
		}
		s.temporary = dir
	}
	s.File = filepath.Join(dir, "rekey.yaml")
	if s.Scenario, err = scenario.Start(o.Scenario); err != nil {
		return s, err
	}
	if o.Keys != nil {
		if err := o.Keys(s.Scenario); err != nil {
			return s, err
		}
	}
	return s, s.Configure(o.Edit)
}

// Configure writes the rekey.yaml of the scenario as it is now, edited, and opens what it names. Workers that run keep
// what they had.
func (s *Sim) Configure(edit func(yaml string) string) error {
	yaml := s.YAML()
	if edit != nil {
		yaml = edit(yaml)
	}
	if err := os.WriteFile(s.File, []byte(yaml), 0o600); err != nil {
		return err
	}
	var err error
	if s.Config, err = config.Load(s.File); err != nil {
		return err
	}
	s.Setup, err = adapters.Open(context.Background(), s.Config, nil)
	return err
}

// Key is a key of rekey.yaml.
func (s *Sim) Key(name string) rotation.Key {
	k, ok := s.Config.Key(name)
	if !ok {
		panic(fmt.Sprintf("rekey.yaml has no key %s", name))
	}
	return k
}

func (s *Sim) close() {
	if s.Scenario != nil {
		s.Scenario.Stop()
	}
	if s.temporary != "" {
		_ = os.RemoveAll(s.temporary)
	}
}
