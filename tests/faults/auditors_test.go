package faults

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/tests/auditor"
)

// envAuditor is who judges a rotation: the simulated cloud's journal, the client auditor, or both (also if it is empty).
const envAuditor = "REKEY_AUDITOR"

// auditors says who judges.
func auditors() (journal, client bool, err error) {
	switch who := os.Getenv(envAuditor); who {
	case "", "both":
		return true, true, nil
	case "journal":
		return true, false, nil
	case "client":
		return false, true, nil
	default:
		return false, false, fmt.Errorf("%s=%q: expected journal, client or both", envAuditor, who)
	}
}

// audited puts the client auditor into a stage, whose hooks must be in place.
func (s *stage) audited() error {
	_, client, err := auditors()
	if err != nil || !client {
		return err
	}
	cfg, err := config.Parse("rekey.yaml", []byte(s.YAML()))
	if err != nil {
		return err
	}
	clients, err := auditor.Dial(context.Background(), cfg, s.Key)
	if err != nil {
		return err
	}
	s.Cloud.Spare(auditor.Agent)
	a := auditor.New(s.Key, s.Now, clients)
	a.Wrap(s.Acts)
	// Between the end of an activity and the beginning of the next one nothing happens but what is late: applications act
	// after that, and when the clock has moved.
	before := s.Before
	s.Before = func(name string) {
		before(name)
		a.Step(context.Background())
	}
	s.Moved = func() { a.Step(context.Background()) }
	s.client, s.closeClients = a, clients.Close
	return nil
}

// begins tells the auditor that a rotation begins.
func (s *stage) begins(reason rotation.Reason) {
	if s.client != nil {
		s.client.Reset(reason)
	}
}

// judged is what the auditors say of a rotation.
func (s *stage) judged(res rotation.Result) (problems []string) {
	if journal, _, _ := auditors(); journal {
		problems = s.Check()
	}
	return append(problems, s.seen(res)...)
}

// seen is what the client auditor says of a rotation.
func (s *stage) seen(res rotation.Result) (problems []string) {
	if s.client == nil {
		return nil
	}
	for _, f := range s.client.Findings(context.Background(), res) {
		problems = append(problems, "client auditor: "+f)
	}
	return problems
}

func TestApplicationsMeetNoFaultsAndSeeWhatIsRefused(t *testing.T) {
	sc, err := scenario.Start(scenario.Options{KeyBits: 1024})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sc.Stop)
	google, err := sc.Google("google", scenario.Alias, scenario.Latest)
	if err != nil {
		t.Fatal(err)
	}
	openai, err := sc.OpenAIKey("openai", scenario.Alias)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Parse("rekey.yaml", []byte(sc.YAML()))
	if err != nil {
		t.Fatal(err)
	}
	sc.Cloud.Spare(auditor.Agent)
	sc.Cloud.Inject(simcloud.Fault{Kind: simcloud.Refuse, Code: 500})
	began := len(sc.Cloud.Journal())
	for _, tc := range []struct {
		key    rotation.Key
		revoke func() error
		listed int
	}{
		{cfg.Keys[0], func() error { return sc.IAM.DisableExposed(scenario.Account("google"), google) }, 1},
		{cfg.Keys[1], func() error { return sc.OpenAI.DeleteKey(openai) }, 0},
	} {
		t.Run(tc.key.Name, func(t *testing.T) {
			clients, err := auditor.Dial(t.Context(), cfg, tc.key)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(clients.Close)
			var v secret.Value
			for _, l := range tc.key.Stores {
				if v, err = clients.Stores[l.Store].Published(t.Context(), l.Path); err != nil {
					t.Fatal(err)
				}
			}
			if accepted, err := clients.Use(t.Context(), v); !accepted || err != nil {
				t.Errorf("accepted %v, %v", accepted, err)
			}
			if clients.List != nil {
				keys, err := clients.List(t.Context())
				if err != nil || len(keys) != tc.listed {
					t.Errorf("listed %v, %v", keys, err)
				}
			} else if tc.listed > 0 {
				t.Error("there is no list")
			}
			if n := len(sc.Cloud.Journal()) - began; n > 0 {
				t.Errorf("%d requests are in the journal", n)
			}
			if err := tc.revoke(); err != nil {
				t.Fatal(err)
			}
			began = len(sc.Cloud.Journal())
			if accepted, err := clients.Use(t.Context(), v); accepted || err != nil {
				t.Errorf("after the revoke: accepted %v, %v", accepted, err)
			}
		})
	}
}

// Close ends the stage.
func (s *stage) Close() {
	s.World.Close()
	if s.closeClients != nil {
		s.closeClients()
	}
}
