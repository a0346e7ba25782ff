package providertest

import (
	"strings"
	"time"

	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
)

func claims(b *bench) {
	c := b.caps
	switch {
	case c.Stamps && !(c.List && c.Mint):
		b.Error("Stamps without List, or without a way to make keys")
	case c.RequestTimeout <= 0:
		b.Error("no RequestTimeout: the horizon would be unknown")
	case c.Limit < 0 || c.ListLag < 0 || c.Propagation < 0 || c.RevocationLag < 0:
		b.Error("negative numbers")
	}
	if url := b.Provider.Console(b.account); !strings.HasPrefix(url, "https://") {
		b.Errorf("Console is %q: a person needs a link", url)
	}
}

func unclaimed(b *bench) {
	id, _ := b.aKey()
	before := len(b.Cloud.Journal())
	ctx := b.Context()
	for _, m := range []struct {
		name    string
		claimed bool
		call    func() error
	}{
		{"Mint", b.caps.Mint, func() error { _, err := b.Provider.Mint(ctx, b.account, b.nextStamp()); return err }},
		{"List", b.caps.List, func() error { _, err := b.Provider.List(ctx, b.account); return err }},
		{"Disable", b.caps.Disable, func() error { return b.Provider.Disable(ctx, b.account, id) }},
		{"Enable", b.caps.Disable, func() error { return b.Provider.Enable(ctx, b.account, id) }},
		{"Delete", b.caps.Delete, func() error { return b.Provider.Delete(ctx, b.account, id) }},
		{"Usage", b.caps.Usage, func() error { _, err := b.Provider.Usage(ctx, b.account, id); return err }},
	} {
		if m.claimed {
			continue
		}
		err := m.call()
		b.saw(err)
		if !fault.Is(err, fault.Rejected) || fault.Of(err).Code != "unsupported" {
			b.Errorf("%s is not claimed, but returns %v and not a Rejected fault with the code unsupported", m.name, err)
		}
	}
	if asked := len(b.Cloud.Journal()) - before; asked > 0 {
		b.Errorf("%d requests were sent for what is not claimed", asked)
	}
}

func newKey(b *bench) {
	if !b.caps.Mint {
		// A person's key must do the same, but for the stamp.
		id, v := b.aKey()
		b.checkKey(id, v)
		return
	}
	stamp, begin := b.nextStamp(), b.Cloud.Now()
	m, err := b.mint(b.Context(), stamp)
	b.must("mint a key", err)
	b.Advance(b.lag)
	b.checkKey(m.ID, m.Value)
	if !b.caps.List {
		return
	}
	k, listed := b.list()[m.ID]
	if !listed {
		b.Fatalf("the new key %s is not listed after the list lag", m.ID)
	}
	want := ""
	if b.caps.Stamps {
		want = stamp
	}
	if k.Stamp != want {
		b.Errorf("the new key is listed with stamp %q, want %q", k.Stamp, want)
	}
	if k.Disabled {
		b.Error("the new key is listed as disabled")
	}
	if d := k.CreatedAt.Sub(begin); d < -time.Second || d > time.Second {
		b.Errorf("the new key is listed as made %v after it was made", d)
	}
}

// checkKey: the value is accepted for its account, and names the id that the provider knows.
func (b *bench) checkKey(id string, v secret.Value) {
	b.Helper()
	p, err := b.Provider.Parse(v)
	b.saw(p, err)
	b.must("parse the key's value", err)
	if p.KeyID != "" && p.KeyID != id {
		b.Errorf("the value says that it is key %s; the provider says %s", p.KeyID, id)
	}
	if p.Account != "" && p.Account != b.account {
		b.Errorf("the value says that it belongs to %s, not to %s", p.Account, b.account)
	}
	if got := b.Cloud.KeyID(p.Value); got != id {
		b.Errorf("the provider knows the parsed value as key %q, want %q", got, id)
	}
	proof := b.probe(p.Value)
	if !proof.Accepted || proof.Code != "" {
		b.Errorf("the key is refused (%s)", proof.Code)
	}
	if proof.Account != "" && proof.Account != b.account {
		b.Errorf("the provider says that the key belongs to %s, not to %s", proof.Account, b.account)
	}
}

func parseTwice(b *bench) {
	id, foreign := b.ForeignKey(b.T, b.account)
	_, own := b.aKey()
	b.keep(foreign)
	for _, v := range []secret.Value{foreign, own} {
		once, err := b.Provider.Parse(v)
		b.must("parse a value", err)
		for how, text := range map[string]string{
			"itself": once.Value.Reveal(), "white space around it": " \t\r\n" + once.Value.Reveal() + "\r\n\n ",
		} {
			twice, err := b.Provider.Parse(secret.FromString(text))
			b.saw(twice, err)
			if err != nil || !twice.Value.Equal(once.Value) || twice.KeyID != once.KeyID || twice.Account != once.Account {
				b.Errorf("parsing a parsed value with %s returns something else: %v, %v", how, twice, err)
			}
		}
	}
	if p, err := b.Provider.Parse(foreign); err != nil || p.KeyID != "" && p.KeyID != id {
		b.Errorf("a person's key %s is parsed as %q (%v)", id, p.KeyID, err)
	}
}

func notAKey(b *bench) {
	if len(b.NotKeys) == 0 {
		b.Fatal("the harness names nothing that is not a key")
	}
	for sentence, text := range b.NotKeys {
		_, err := b.Provider.Parse(secret.FromString(text))
		b.saw(err)
		f := fault.Of(err)
		if err == nil || f.Class != fault.Rejected || f.Advice == "" {
			b.Errorf("%s: Parse returns %v, want a Rejected fault with advice", sentence, err)
			continue
		}
		if len(text) >= leakLength && strings.Contains(err.Error(), text) {
			b.Errorf("%s: the fault repeats what was given", sentence)
		}
	}
}

func refusedValue(b *bench) {
	v := b.RefusedValue(b.T, b.account)
	b.keep(v)
	if _, err := b.Provider.Parse(v); err != nil {
		b.Fatalf("the harness's refused value is not well-formed: %v", err)
	}
	if proof := b.probe(v); proof.Accepted || proof.Code == "" {
		b.Errorf("a value that the provider does not know returns %+v, want a refusal with a code", proof)
	}
}

func lifeOfAKey(b *bench) {
	id, v := b.aKey()
	ctx := b.Context()
	steps := []struct {
		claimed  bool
		name     string
		do       func() error
		accepted bool
		listed   bool
		again    fault.Class
	}{
		{b.caps.Disable, "disable", func() error { return b.Provider.Disable(ctx, b.account, id) }, false, true, ""},
		{b.caps.Disable, "enable", func() error { return b.Provider.Enable(ctx, b.account, id) }, true, true, ""},
		{b.caps.Delete, "delete", func() error { return b.Provider.Delete(ctx, b.account, id) }, false, false, fault.NotFound},
	}
	for _, s := range steps {
		if !s.claimed {
			continue
		}
		for _, often := range []string{"once", "twice"} {
			err := s.do()
			b.saw(err)
			if often == "twice" && s.again != "" {
				if !fault.Is(err, s.again) {
					b.Errorf("%s a key twice: %v, want %s", s.name, err, s.again)
				}
			} else {
				b.must(s.name+" a key "+often, err)
			}
			b.Advance(b.lag)
			if proof := b.probe(v); proof.Accepted != s.accepted {
				b.Errorf("after %s (%s) the key's value returns %+v", s.name, often, proof)
			}
			if !b.caps.List {
				continue
			}
			k, listed := b.list()[id]
			if listed != s.listed {
				b.Errorf("after %s (%s) the key is listed: %v, want %v", s.name, often, listed, s.listed)
			}
			if listed && k.Disabled == s.accepted {
				b.Errorf("after %s (%s) the key is listed as disabled: %v", s.name, often, k.Disabled)
			}
		}
	}
}

func unknownKey(b *bench) {
	ctx := b.Context()
	// An id of the right form that nobody knows: one of another account.
	id, _ := b.ForeignKey(b.T, b.NewAccount(b.T))
	for _, m := range []struct {
		name    string
		claimed bool
		call    func() error
	}{
		{"Disable", b.caps.Disable, func() error { return b.Provider.Disable(ctx, b.account, id) }},
		{"Enable", b.caps.Disable, func() error { return b.Provider.Enable(ctx, b.account, id) }},
		{"Delete", b.caps.Delete, func() error { return b.Provider.Delete(ctx, b.account, id) }},
	} {
		if !m.claimed {
			continue
		}
		err := m.call()
		b.saw(err)
		if !fault.Is(err, fault.NotFound) {
			b.Errorf("%s of an unknown key: %v, want NotFound", m.name, err)
		}
	}
	if _, alive := b.Cloud.LiveKeys()[id]; !alive {
		b.Error("the key of another account was deleted")
	}
}

// youngKey: a provider whose lists are late may be late with a key's own id, too.
func youngKey(b *bench) {
	if !b.caps.Mint || !b.caps.Delete {
		return
	}
	timing := b.Cloud.Timing()
	timing.VisibleLag = b.caps.ListLag
	b.Cloud.SetTiming(timing)
	m, err := b.mint(b.Context(), b.nextStamp())
	b.must("mint a key", err)
	if b.caps.ListLag > 0 {
		err := b.Provider.Delete(b.Context(), b.account, m.ID)
		b.saw(err)
		if !fault.Is(err, fault.NotFound) {
			b.Errorf("a key that is not shown yet is deleted: %v, want NotFound", err)
		}
	}
	b.Advance(b.caps.ListLag)
	b.must("delete a key after the list lag", b.Provider.Delete(b.Context(), b.account, m.ID))
	if _, alive := b.Cloud.LiveKeys()[m.ID]; alive {
		b.Error("the key lives on")
	}
}

func foreignKey(b *bench) {
	id, v := b.ForeignKey(b.T, b.account)
	b.keep(v)
	b.Advance(b.lag)
	b.checkKey(id, v)
	if !b.caps.List {
		return
	}
	if k, listed := b.list()[id]; !listed || k.Stamp != "" {
		b.Errorf("a person's key is listed: %v, with stamp %q", listed, k.Stamp)
	}
}

func unknownAccount(b *bench) {
	if !b.caps.List || b.UnknownAccount == "" {
		return
	}
	keys, err := b.Provider.List(b.Context(), b.UnknownAccount)
	b.saw(keys, err)
	if !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.AccessDenied) {
		b.Errorf("the keys of an unknown account are %v, %v", keys, err)
	}
}

func fullAccount(b *bench) {
	if b.caps.Limit == 0 || !b.caps.Mint {
		return
	}
	for range b.caps.Limit {
		_, v := b.ForeignKey(b.T, b.account)
		b.keep(v)
	}
	_, err := b.mint(b.Context(), b.nextStamp())
	f := fault.Of(err)
	if !fault.Is(err, fault.Rejected) || f.Unsettled || f.Advice == "" {
		b.Errorf("one key more than the limit returns %v, want a settled Rejected fault with advice", err)
	}
}

func usage(b *bench) {
	if !b.caps.Usage {
		return
	}
	id, v := b.aKey()
	before := b.calls(Probe)
	u, err := b.Provider.Usage(b.Context(), b.account, id)
	b.saw(u, err)
	b.keep(v)
	b.must("ask for the last use", err)
	if u.Freshness <= 0 {
		b.Error("the answer does not say how fresh it is")
	}
	if b.calls(Probe) != before {
		b.Error("asking for the last use used the key")
	}
}
