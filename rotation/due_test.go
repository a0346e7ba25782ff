package rotation

import (
	"strings"
	"testing"
	"time"
)

var clock = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestWhatIsDueAndWhy(t *testing.T) {
	policy := Preset(Production) // 90d, grace 48h
	ago := func(d time.Duration) time.Time { return clock.Add(-d) }
	fresh := func(change func(*Facts)) Facts {
		f := Facts{Now: clock, Reason: Scheduled, HasCurrent: true, BornAt: ago(30 * day)}
		if change != nil {
			change(&f)
		}
		return f
	}
	leaked := func(change func(*Facts)) Facts {
		f := fresh(change)
		f.Reason, f.LeakNamed = Emergency, true
		return f
	}
	for sentence, c := range map[string]struct {
		facts Facts
		work  Work
		rule  string
	}{
		"a key of 30 days is fresh":              {fresh(nil), Nothing, "fresh"},
		"a key of 90 days is due":                {fresh(func(f *Facts) { f.BornAt = ago(90 * day) }), Rotate, "age"},
		"a second before 90 days it is not due":  {fresh(func(f *Facts) { f.BornAt = ago(90*day - time.Second) }), Nothing, "fresh"},
		"a path without a value gets its first":  {fresh(func(f *Facts) { f.HasCurrent = false }), Rotate, "no-current"},
		"a person does not have to wait for age": {fresh(func(f *Facts) { f.Reason = Manual }), Rotate, "asked"},
		"nor does an emergency":                  {fresh(func(f *Facts) { f.Reason = Emergency }), Rotate, "asked"},
		"stores that disagree get one new key":   {fresh(func(f *Facts) { f.StoresDisagree = true }), Rotate, "stores-disagree"},
		"a key that died before its time":        {fresh(func(f *Facts) { f.CurrentRefused = true }), Rotate, "current-refused"},
		"a key that ends within grace and two missed beats is due": {
			fresh(func(f *Facts) { f.ExpiresAt = clock.Add(4*day - time.Second) }), Rotate, "expiring"},
		"a key that ends later is not":                                           {fresh(func(f *Facts) { f.ExpiresAt = clock.Add(4 * day) }), Nothing, "fresh"},
		"a key that has ended is due":                                            {fresh(func(f *Facts) { f.ExpiresAt = ago(time.Hour) }), Rotate, "expiring"},
		"what an earlier rotation left is finished":                              {fresh(func(f *Facts) { f.Duties = 1 }), Finish, "duties"},
		"a key whose age nobody knows is left alone":                             {fresh(func(f *Facts) { f.BornAt = time.Time{} }), Nothing, "age-unknown"},
		"a key that is from the future is left alone":                            {fresh(func(f *Facts) { f.BornAt = clock.Add(day) }), Nothing, "fresh"},
		"an unknown age does not hide a refused key":                             {fresh(func(f *Facts) { f.BornAt, f.CurrentRefused = time.Time{}, true }), Rotate, "current-refused"},
		"an unknown age does not hide an ending key":                             {fresh(func(f *Facts) { f.BornAt, f.ExpiresAt = time.Time{}, clock }), Rotate, "expiring"},
		"an unknown age does not hide duties":                                    {fresh(func(f *Facts) { f.BornAt, f.Duties = time.Time{}, 2 }), Finish, "duties"},
		"no current value comes before who asked":                                {fresh(func(f *Facts) { f.HasCurrent, f.Reason = false, Manual }), Rotate, "no-current"},
		"who asked comes before stores that disagree":                            {fresh(func(f *Facts) { f.Reason, f.StoresDisagree = Manual, true }), Rotate, "asked"},
		"stores that disagree come before a refusal":                             {fresh(func(f *Facts) { f.StoresDisagree, f.CurrentRefused = true, true }), Rotate, "stores-disagree"},
		"a refused current comes before its end":                                 {fresh(func(f *Facts) { f.CurrentRefused, f.ExpiresAt = true, clock }), Rotate, "current-refused"},
		"a refused current comes before its age":                                 {fresh(func(f *Facts) { f.CurrentRefused, f.BornAt = true, ago(90*day) }), Rotate, "current-refused"},
		"the end comes before the age":                                           {fresh(func(f *Facts) { f.ExpiresAt, f.BornAt = clock, ago(90*day) }), Rotate, "expiring"},
		"stores that disagree come before duties":                                {fresh(func(f *Facts) { f.StoresDisagree, f.Duties = true, 1 }), Rotate, "stores-disagree"},
		"a refused current comes before duties":                                  {fresh(func(f *Facts) { f.CurrentRefused, f.Duties = true, 1 }), Rotate, "current-refused"},
		"an old key is replaced, duties come with that":                          {fresh(func(f *Facts) { f.BornAt, f.Duties = ago(90*day), 1 }), Rotate, "age"},
		"an emergency about another value than the current one needs no new key": {leaked(func(f *Facts) { f.Duties = 1 }), Finish, "leaked"},
		"and nothing at all, if that value is not live":                          {leaked(nil), Nothing, "not-live"},
		"but a new key, if the current value is among what leaked":               {leaked(func(f *Facts) { f.Duties, f.CurrentLeaked = 1, true }), Rotate, "asked"},
		"or stores disagree: which one stays?":                                   {leaked(func(f *Facts) { f.Duties, f.StoresDisagree = 1, true }), Rotate, "asked"},
		"or the provider refuses the current one: nothing would be left":         {leaked(func(f *Facts) { f.Duties, f.CurrentRefused = 1, true }), Rotate, "asked"},
	} {
		t.Run(sentence, func(t *testing.T) {
			got := Due(c.facts, policy)
			if got.Work != c.work || got.Rule != c.rule {
				t.Errorf("%s by rule %q (%s), want %s by %q", got.Work, got.Rule, got.Message, c.work, c.rule)
			}
			if got.Message == "" || !strings.HasSuffix(got.Message, ".") {
				t.Errorf("the reason is no sentence: %q", got.Message)
			}
			var dueAt time.Time
			if !c.facts.BornAt.IsZero() {
				dueAt = c.facts.BornAt.Add(90 * day)
			}
			// A grace period of two days, and a missed beat.
			if ends := c.facts.ExpiresAt.Add(-4 * day); !c.facts.ExpiresAt.IsZero() && (dueAt.IsZero() || ends.Before(dueAt)) {
				dueAt = ends
			}
			if !got.DueAt.Equal(dueAt) {
				t.Errorf("due at %s, want %s", got.DueAt, dueAt)
			}
		})
	}
}

func TestTheExpiringRuleLeavesTimeForTheGraceOfThePolicy(t *testing.T) {
	f := Facts{Now: clock, Reason: Scheduled, HasCurrent: true, BornAt: clock.Add(-day), ExpiresAt: clock.Add(10 * day)}
	if got := Due(f, Preset(Production)); got.Work != Nothing {
		t.Errorf("with a grace of 48h: %+v", got)
	}
	if got := Due(f, Preset(Development)); got.Rule != "expiring" {
		t.Errorf("with a grace of 2w: %+v", got)
	}
}

func TestTheGuardJudgesWhatTheProviderSaw(t *testing.T) {
	published := clock.Add(-48 * time.Hour)
	quiet, late := Duration(time.Hour), Duration(3*time.Hour)
	at := func(d time.Duration) time.Time { return published.Add(d) }
	for sentence, c := range map[string]struct {
		signal UsageReport
		want   UseVerdict
	}{
		"no use was ever seen":                          {UsageReport{Known: true, Freshness: late, AskedAt: clock}, Unused},
		"it was used before the new value was out only": {UsageReport{Known: true, LastUsed: at(-time.Minute), Freshness: late, AskedAt: clock}, Unused},
		"it was used at the moment of publishing only":  {UsageReport{Known: true, LastUsed: published, Freshness: late, AskedAt: clock}, Unused},
		"it was used a minute ago":                      {UsageReport{Known: true, LastUsed: clock.Add(-time.Minute), Freshness: late, AskedAt: clock}, InUse},
		"its last use is as long ago as quiet and delay want": {
			UsageReport{Known: true, LastUsed: clock.Add(-4 * time.Hour), Freshness: late, AskedAt: clock}, Unused},
		"its last use is a second less long ago": {
			UsageReport{Known: true, LastUsed: clock.Add(-4*time.Hour + time.Second), Freshness: late, AskedAt: clock}, InUse},
		"use would not have shown yet": {UsageReport{Known: true, Freshness: late, AskedAt: at(4*time.Hour - time.Second)}, Unknown},
		"use would have shown by now":  {UsageReport{Known: true, Freshness: late, AskedAt: at(4 * time.Hour)}, Unused},
		"use was seen although there was hardly time": {
			UsageReport{Known: true, LastUsed: at(time.Minute), Freshness: late, AskedAt: at(2 * time.Minute)}, InUse},
		"it was used a moment before the new value was out, a moment ago": {
			UsageReport{Known: true, LastUsed: at(-time.Minute), Freshness: late, AskedAt: at(time.Minute)}, Unknown},
		"the signal is slower than grace":  {UsageReport{Known: true, Freshness: Duration(72 * time.Hour), AskedAt: clock}, Unknown},
		"the provider does not tell":       {UsageReport{Message: "nobody tells", AskedAt: clock}, Unknown},
		"an unknown signal is no last use": {UsageReport{Message: "nobody tells", LastUsed: clock, AskedAt: clock}, Unknown},
	} {
		t.Run(sentence, func(t *testing.T) {
			got, why := EvaluateUse(c.signal, published, quiet)
			if got != c.want || why == "" {
				t.Errorf("%s (%q), want %s", got, why, c.want)
			}
			if !c.signal.Known && why != c.signal.Message {
				t.Errorf("the provider's reason %q became %q", c.signal.Message, why)
			}
		})
	}
}
