package rotation_test

import (
	"fmt"
	"time"

	"github.com/rekeyhq/rekey/rotation"
)

// The first rule that has an opinion decides: a refused key is replaced whatever its age, an old one because of its age,
// and a fresh one is left alone.
func ExampleDue() {
	policy := rotation.Preset(rotation.Production)
	now := time.Date(2026, 11, 28, 9, 0, 0, 0, time.UTC)
	facts := rotation.Facts{Now: now, Reason: rotation.Scheduled, HasCurrent: true, BornAt: now.AddDate(0, 0, -30)}
	show := func() {
		v := rotation.Due(facts, policy)
		fmt.Printf("%-8s %-16s due %s\n", v.Work, v.Rule, v.DueAt.Format(time.DateOnly))
	}
	show()
	facts.BornAt = now.AddDate(0, 0, -90)
	show()
	facts.BornAt, facts.CurrentRefused = now.AddDate(0, 0, -1), true
	show()
	// Output:
	// nothing  fresh            due 2027-01-27
	// rotate   age              due 2026-11-28
	// rotate   current-refused  due 2027-02-25
}

// A tier chooses how often a key is rotated and how long old and new key both work.
func ExamplePreset() {
	for _, tier := range rotation.Tiers() {
		p := rotation.Preset(tier)
		fmt.Printf("%-12s every %s, %s of grace, at most %s\n", tier, p.Period, p.Grace, p.MaxGrace)
	}
	// Output:
	// production-1 every 30d, 1d of grace, at most 8d
	// production   every 90d, 2d of grace, at most 9d
	// staging      every 90d, 1w of grace, at most 2w
	// development  every 180d, 2w of grace, at most 3w
}

// The guard believes silence only if the provider would have shown use by now.
func ExampleEvaluateUse() {
	published := time.Date(2026, 11, 28, 9, 0, 0, 0, time.UTC)
	quiet, _ := rotation.ParseDuration("1h")
	freshness, _ := rotation.ParseDuration("3h")
	for _, after := range []time.Duration{2 * time.Hour, 5 * time.Hour} {
		fmt.Println(rotation.EvaluateUse(rotation.UsageReport{Known: true, Freshness: freshness, AskedAt: published.Add(after)}, published, quiet))
	}
	fmt.Println(rotation.EvaluateUse(rotation.UsageReport{Message: "the provider does not report use"}, published, quiet))
	// Output:
	// Unknown the provider shows use with up to 3h delay and the new value is out for 2h only
	// Unused no use seen in the last 1h
	// Unknown the provider does not report use
}
