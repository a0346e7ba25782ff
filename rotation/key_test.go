package rotation

import (
	"encoding/json"
	"slices"
	"testing"
	"time"
)

func TestThePresetsAreThoseOfTheTiers(t *testing.T) {
	for tier, want := range map[Tier]struct{ period, grace string }{
		Production1:    {"30d", "24h"},
		Production:     {"90d", "48h"},
		Staging:        {"90d", "1w"},
		Development:    {"180d", "2w"},
		"":             {"90d", "48h"},
		"no-such-tier": {"90d", "48h"},
	} {
		p := Preset(tier)
		period, _ := ParseDuration(want.period)
		grace, _ := ParseDuration(want.grace)
		if p.Period != period || p.Grace != grace {
			t.Errorf("%q: period %s, grace %s; want %s, %s", tier, p.Period, p.Grace, want.period, want.grace)
		}
		if p.MaxGrace <= p.Grace || p.Period <= p.MaxGrace {
			t.Errorf("%q: grace %s, at most %s, does not fit into a period of %s", tier, p.Grace, p.MaxGrace, p.Period)
		}
		if !p.UnknownUse.Valid() || p.Quiet <= 0 || p.Soak <= 0 || p.Patience <= 0 || p.Recheck <= 0 || p.StepTimeout <= 0 {
			t.Errorf("%q: something is not set: %+v", tier, p)
		}
		if slices.Contains(Tiers(), tier) != tier.Valid() {
			t.Errorf("%q: is it a tier or not?", tier)
		}
	}
}

func TestDurationsReadAndPrintAsPeopleWriteThem(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"30d": 30 * 24 * time.Hour, "2w": 14 * 24 * time.Hour, "36h": 36 * time.Hour, "1m30s": 90 * time.Second, "500ms": 500 * time.Millisecond, "0s": 0,
	} {
		d, err := ParseDuration(text)
		if err != nil || time.Duration(d) != want {
			t.Errorf("%q is read as %s, %v", text, time.Duration(d), err)
			continue
		}
		if again, err := ParseDuration(d.String()); err != nil || again != d {
			t.Errorf("%q prints as %q, which is read as %s, %v", text, d, again, err)
		}
		wire, err := json.Marshal(d)
		var back Duration
		if err != nil || json.Unmarshal(wire, &back) != nil || back != d {
			t.Errorf("%q travels as %s and arrives as %s (%v)", text, wire, back, err)
		}
	}
	for _, text := range []string{"", "90", "d", "-1d", "1.5h", "1h 30m", "1x"} {
		if d, err := ParseDuration(text); err == nil {
			t.Errorf("%q is read as %s", text, d)
		}
	}
}

func TestEveryPhaseIsExplained(t *testing.T) {
	for _, p := range Phases() {
		if p.Explain() == "" {
			t.Errorf("%s has no explanation", p)
		}
	}
	if Phase("no-such-phase").Explain() != "" {
		t.Error("a phase that does not exist is explained")
	}
}
