package faults

import (
	"testing"

	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/tests/auditor"
)

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
