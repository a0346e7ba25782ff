package main

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/secret"
)

// gate is the way to Temporal. Shut, it takes what is sent and passes nothing on.
type gate struct {
	address string

	mu   sync.Mutex
	cond *sync.Cond
	shut bool
}

func newGate(t testing.TB, to string) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{address: l.Addr().String()}
	g.cond = sync.NewCond(&g.mu)
	t.Cleanup(func() { _ = l.Close(); g.set(false) })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				_ = near.Close()
				continue
			}
			go g.pass(far, near)
			go g.pass(near, far)
		}
	}()
	return g
}

func (g *gate) set(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = shut
	g.cond.Broadcast()
}

func (g *gate) pass(to io.WriteCloser, from io.Reader) {
	defer to.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		g.mu.Lock()
		for g.shut {
			g.cond.Wait()
		}
		g.mu.Unlock()
		if _, writeErr := to.Write(buffer[:n]); err != nil || writeErr != nil {
			return
		}
	}
}

// byHandFixture is a fixture with one OpenAI key and a rotation that waits for the new one.
func byHandFixture(t *testing.T) *fixture {
	t.Helper()
	s := newFixture(t, fast(t), func(c *scenario.Scenario) error {
		_, err := c.OpenAIKey("gpt", scenario.Alias, scenario.Latest)
		return err
	})
	s.rekey(exitOK, "", "rotate", "gpt")
	s.AwaitPhase("gpt", rotation.AwaitingKey)
	return s
}

func (s *fixture) create() (id string, v secret.Value) {
	return s.OpenAI.CreateKey(scenario.OpenAIProject("gpt"), "made by hand, again")
}

// finish plays the person to the end and checks which key applications read then.
func (s *fixture) finish(id string, v secret.Value) {
	s.Helper()
	s.AwaitPhase("gpt", rotation.AwaitingRevocation)
	for _, k := range s.OpenAI.Keys(scenario.OpenAIProject("gpt")) {
		if k.Name == "made by hand" {
			if err := s.OpenAI.DeleteKey(k.ID); err != nil {
				s.Fatal(err)
			}
		}
	}
	s.rekey(exitOK, "", "key-revoked", "gpt")
	if res := s.Result("gpt", ""); res.Phase != rotation.Completed || res.New != v.Fingerprint() {
		s.Errorf("the rotation ended as %s with %s, want %s", res.Phase, res.New, v.Fingerprint())
	}
	for _, store := range []string{scenario.Alias, scenario.Latest} {
		if got := s.Cloud.PublishedKeys()[scenario.Path(store, "gpt")]; got != id {
			s.Errorf("applications read %s in %s, want %s", got, store, id)
		}
	}
	for _, broken := range s.Cloud.Check(scenario.Rules("gpt", scenario.Alias, scenario.Latest)) {
		s.Error(broken)
	}
	searched(s, s.said.String(), s.values()...)
}

// killedSupply runs supply until the value is in the store and kills it before the rotation hears of it.
func (s *fixture) killedSupply(v secret.Value) {
	s.Helper()
	g := newGate(s.commandLine.t, s.Address())
	reached, release := make(chan struct{}), make(chan struct{})
	s.Cloud.Inject(simcloud.Fault{Service: simcloud.SecretManagerService, Method: "AddSecretVersion", Times: 1, Kind: simcloud.Hold, Reached: reached, Release: release})
	cmd, out := s.command(v.Reveal(), "--address", g.address, "supply", "gpt")
	if err := cmd.Start(); err != nil {
		s.Fatal(err)
	}
	<-reached
	g.set(true)
	close(release)
	s.Await("the value comes into the store", func() bool { return s.added(v) })
	kill(cmd)
	_, _ = s.said.Write([]byte(out.String()))
	if strings.Contains(strings.ToLower(out.String()), "stored the key") {
		s.Fatalf("the command came to its end: the test proves nothing\n%s", out)
	}
}

// added reports whether a value is in a store.
func (s *fixture) added(v secret.Value) bool {
	for _, seen := range s.SM.Seen() {
		if seen.Equal(v) {
			return true
		}
	}
	return false
}

func TestASupplyThatIsKilledBeforeItTellsTheRotationIsNoDeadEnd(t *testing.T) {
	t.Parallel()
	for name, again := range map[string]func(s *fixture, first string, v secret.Value) (string, secret.Value){
		"the same key is supplied again": func(s *fixture, first string, v secret.Value) (string, secret.Value) {
			s.rekey(exitOK, v.Reveal(), "supply", "gpt")
			return first, v
		},
		"another key is supplied": func(s *fixture, _ string, _ secret.Value) (string, secret.Value) {
			id, v := s.create()
			s.rekey(exitOK, v.Reveal(), "supply", "gpt")
			return id, v
		},
		"a signal without a version takes what stands there": func(s *fixture, first string, v secret.Value) (string, secret.Value) {
			if err := s.Client.SignalWorkflow(context.Background(), "rotate/gpt", "", string(rotation.KeySupplied), nil); err != nil {
				s.Fatal(err)
			}
			return first, v
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := byHandFixture(t)
			first, v := s.create()
			s.killedSupply(v)
			if st := s.AwaitPhase("gpt", rotation.AwaitingKey); st.Deadline.IsZero() || !strings.Contains(st.Details, "rekey supply gpt") {
				t.Errorf("I7: the rotation does not say what it waits for: %+v", st)
			}
			s.finish(again(s, first, v))
		})
	}
}

func TestASupplyThatTheStoreDoesNotAnswerCanBeRepeated(t *testing.T) {
	t.Parallel()
	s := byHandFixture(t)
	id, v := s.create()
	s.Cloud.Inject(simcloud.Fault{Service: simcloud.SecretManagerService, Method: "AddSecretVersion", Times: 1, Kind: simcloud.LoseReply})
	if out := s.rekey(exitFailed, v.Reveal(), "supply", "gpt"); strings.Contains(strings.ToLower(out), "stored the key") {
		t.Errorf("the command says more than it knows: %s", out)
	}
	s.rekey(exitOK, v.Reveal(), "supply", "gpt")
	s.finish(id, v)
}

func TestASupplyThatComesTooLateStagesNothing(t *testing.T) {
	t.Parallel()
	s := byHandFixture(t)
	id, v := s.create()
	s.rekey(exitOK, v.Reveal(), "supply", "gpt")
	s.AwaitPhase("gpt", rotation.AwaitingRevocation)
	_, late := s.create()
	if out := s.rekey(exitRefused, late.Reveal(), "supply", "gpt"); !strings.Contains(out, "takes no key now") || s.added(late) {
		t.Errorf("staged: %v; said: %s", s.added(late), out)
	}
	s.finish(id, v)
}

// A checkout on another machine names the same store, and does not have it.
func TestASupplyFromAMachineWithoutTheStoreMakesNoneAndSaysSo(t *testing.T) {
	t.Parallel()
	s := newFixture(t, fast(t), func(c *scenario.Scenario) error {
		_, err := c.OpenAIKey("gpt", scenario.Local)
		return err
	})
	s.rekey(exitOK, "", "rotate", "gpt")
	s.AwaitPhase("gpt", rotation.AwaitingKey)
	id, v := s.create()
	elsewhere := t.TempDir()
	file := filepath.Join(elsewhere, "rekey.yaml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(s.YAML(), filepath.Dir(s.file), elsewhere)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := s.rekey(exitFailed, v.Reveal(), "--config", file, "supply", "gpt"); !strings.Contains(out, "This machine does not have the store") {
		t.Errorf("said: %s", out)
	}
	if left, err := os.ReadDir(elsewhere); err != nil || len(left) != 1 {
		t.Errorf("it made %v, %v", left, err)
	}
	s.AwaitPhase("gpt", rotation.AwaitingKey)
	s.rekey(exitOK, v.Reveal(), "supply", "gpt")
	if st := s.AwaitPhase("gpt", rotation.AwaitingRevocation); !strings.Contains(st.Details, v.Fingerprint()) {
		t.Errorf("the key %s (%s) was not taken: %s", v.Fingerprint(), id, st.Details)
	}
	searched(t, s.said.String(), v)
}
