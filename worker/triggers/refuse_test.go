package triggers_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const goodOrder = `{"key":"openai-prod","leaked":true,"why":"seen in a log"}`

func TestWhatIsNotRightIsRefusedLoggedAndStartsNothing(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	hook := func(body string) func(*fixture) call { return func(r *fixture) call { return r.hook("d1", body) } }
	with := func(header, value string) func(*fixture) call {
		return func(r *fixture) call { c := r.hook("d1", goodOrder); c.header.Set(header, value); return c }
	}
	at := func(d time.Duration) func(*fixture) call {
		return func(r *fixture) call { return r.signed(r.hook("d1", goodOrder), r.clock.Add(d)) }
	}
	id := func(id string) func(*fixture) call { return func(r *fixture) call { return r.hook(id, goodOrder) } }
	alert := func(body string) func(*fixture) call { return func(r *fixture) call { return r.alert("d1", body) } }
	token := func(change func(map[string]any)) func(*fixture) call {
		return func(r *fixture) call {
			c := r.push("1", "SECRET_ROTATE", secretName)
			c.header.Set("Authorization", "Bearer "+r.google.token(t, change))
			return c
		}
	}
	bearer := func(text string) func(*fixture) call {
		return func(r *fixture) call {
			c := r.push("1", "SECRET_ROTATE", secretName)
			c.header.Set("Authorization", text)
			return c
		}
	}
	part := base64.RawURLEncoding.EncodeToString
	for sentence, tc := range map[string]struct {
		call   func(*fixture) call
		status int
		reason string
	}{
		"another host":        {func(r *fixture) call { c := r.hook("d1", goodOrder); c.host = "127.0.0.1"; return c }, 421, "another host"},
		"another path":        {func(r *fixture) call { c := r.hook("d1", goodOrder); c.path = "/"; return c }, 404, "no such source"},
		"a path with slashes": {func(r *fixture) call { c := r.hook("d1", goodOrder); c.path = "//triggers/ci"; return c }, 404, "no such source"},
		"an unknown source":   {func(r *fixture) call { c := r.hook("d1", goodOrder); c.path = "/triggers/cd"; return c }, 404, "no such source"},
		"a GET":               {func(r *fixture) call { c := r.hook("d1", goodOrder); c.method = http.MethodGet; return c }, 405, "is a POST"},

		"unsigned":                         {with("X-Rekey-Signature", ""), 401, "no X-Rekey-Signature"},
		"signed with another secret":       {with("X-Rekey-Signature", sign("another", goodOrder)), 401, "not that of this delivery"},
		"signed without time and id":       {with("X-Rekey-Signature", sign(hookSecret, goodOrder)), 401, "not that of this delivery"},
		"a signature that is not hex":      {with("X-Rekey-Signature", "sha256=zz"), 401, "not that of this delivery"},
		"a signature of another kind":      {with("X-Rekey-Signature", strings.Replace(sign(hookSecret, "x"), "sha256", "sha1", 1)), 401, "not that of this delivery"},
		"half a signature":                 {with("X-Rekey-Signature", sign(hookSecret, "x")[:20]), 401, "not that of this delivery"},
		"replayed under another id":        {with("X-Rekey-Delivery", "d2"), 401, "not that of this delivery"},
		"replayed with a fresh time":       {with("X-Rekey-Timestamp", "1800000000"), 401, "not that of this delivery"},
		"a changed body":                   {func(r *fixture) call { c := r.hook("d1", goodOrder); c.body += " "; return c }, 401, "not that of this delivery"},
		"signed for another source":        {func(r *fixture) call { c := r.hook("d1", goodOrder); c.path = "/triggers/github"; return c }, 401, "no X-Hub-Signature-256"},
		"stale":                            {at(-6 * time.Minute), 400, "6m0s off this machine's clock"},
		"from the future":                  {at(6 * time.Minute), 400, "6m0s off this machine's clock"},
		"without an id":                    {id(""), 400, "X-Rekey-Delivery is not a valid id"},
		"an id with a dot":                 {id("a.b"), 400, "X-Rekey-Delivery is not a valid id"},
		"an id that is too long":           {id(strings.Repeat("a", 129)), 400, "X-Rekey-Delivery is not a valid id"},
		"oversized":                        {hook(`{"why":"` + strings.Repeat("x", 300<<10) + `"}`), 413, "larger than 256 KiB"},
		"no JSON":                          {hook(`BODYMARK`), 400, "not what it should be"},
		"an empty body":                    {hook(``), 400, "not what it should be"},
		"more than one object":             {hook(goodOrder + `{}`), 400, "something follows"},
		"an unknown field":                 {hook(`{"key":"openai-prod","BODYMARK":1}`), 400, "nothing else"},
		"revoke-first":                     {hook(`{"key":"openai-prod","leaked":true,"revokeFirst":true}`), 400, "nothing else"},
		"an approval":                      {hook(`{"key":"openai-prod","approve":true}`), 400, "nothing else"},
		"neither key nor fingerprint":      {hook(`{"leaked":true}`), 400, "expected either"},
		"both key and fingerprint":         {hook(`{"key":"openai-prod","fingerprint":"0123456789ab"}`), 400, "expected either"},
		"a key where its name belongs":     {hook(`{"key":"` + leakedKey + `"}`), 400, "not a valid name of a key"},
		"a key where a fingerprint is due": {hook(`{"fingerprint":"` + leakedKey + `"}`), 400, `"fingerprint" is not valid`},
		"a key in the reason":              {hook(`{"key":"openai-prod","why":"` + leakedKey + `"}`), 400, "treat that key as leaked"},
		"a reason of two lines":            {hook(`{"key":"openai-prod","why":"a\nb"}`), 400, "must be one line"},
		"a reason that turns around":       {hook(`{"key":"openai-prod","why":"a\u202eb"}`), 400, "must be one line"},
		"a reason with unseen characters":  {hook(`{"key":"openai-prod","why":"a\u200bb"}`), 400, "must be one line"},
		"a key behind an escape":           {hook(`{"key":"openai-prod","why":"\u0073` + leakedKey[1:] + `"}`), 400, "treat that key as leaked"},
		"a field twice":                    {hook(`{"key":"openai-ci","key":"openai-prod"}`), 400, "a field appears twice"},
		"a field in other cases":           {hook(`{"Key":"openai-prod"}`), 400, "a field appears twice, or its name is written in different cases"},
		"a field in both cases":            {hook(`{"key":"openai-prod","leaked":false,"LEAKED":true}`), 400, "a field appears twice"},
		"an unknown key":                   {hook(`{"key":"openai-old"}`), 422, "no key of that name that this source may trigger"},
		"a key of others":                  {hook(`{"key":"payments"}`), 422, "no key of that name that this source may trigger"},

		"GitHub: unsigned": {func(r *fixture) call {
			c := r.alert("d1", alertBody("created", ""))
			c.header.Del("X-Hub-Signature-256")
			return c
		}, 401, "no X-Hub-Signature-256"},
		"GitHub: signed with another secret": {func(r *fixture) call {
			c := r.alert("d1", alertBody("created", ""))
			c.header.Set("X-Hub-Signature-256", sign("another", c.body))
			return c
		}, 401, "not that of this delivery"},
		"GitHub: without an event": {func(r *fixture) call {
			c := r.alert("d1", alertBody("created", ""))
			c.header.Del("X-GitHub-Event")
			return c
		}, 400, "no X-GitHub-Event"},
		"GitHub: a form":                     {alert("payload=%7B%7D"), 400, "content type to application/json"},
		"GitHub: oversized":                  {alert(`{"action":"` + strings.Repeat("x", 300<<10) + `"}`), 413, "larger than 256 KiB"},
		"GitHub: no alert":                   {alert(`{"zen":"BODYMARK"}`), 400, "is not an alert"},
		"GitHub: a value that is not a text": {alert(alertBody("created", `,"secret":{"v":"`+leakedKey+`"}`)), 400, "not the JSON of an alert"},
		"GitHub: a field twice":              {alert(strings.Replace(alertBody("created", ""), `"action":`, `"action":"resolved","action":`, 1)), 400, "not the JSON of an alert"},
		"GitHub: a field in other cases":     {alert(strings.Replace(alertBody("created", ""), `"number":`, `"Number":8,"number":`, 1)), 400, "not the JSON of an alert"},
		"GitHub: a type that nobody mapped":  {alert(strings.Replace(alertBody("created", ""), "openai_api_key", "npm_token", 1)), 422, "names no key for its type"},
		"GitHub: a type that is a key":       {alert(strings.Replace(alertBody("created", ""), "openai_api_key", leakedKey, 1)), 422, "names no key for its type"},

		"Google: without a token":             {bearer(""), 401, "there is no token"},
		"Google: a token of two parts":        {bearer("Bearer a.b"), 401, "three parts"},
		"Google: a token that is null":        {bearer("Bearer " + part([]byte("null")) + "." + part([]byte("null")) + ".x"), 401, "no JSON object"},
		"Google: claims that are null":        {bearer("Bearer " + part([]byte(`{"alg":"RS256"}`)) + "." + part([]byte("null")) + ".x"), 401, "no JSON object"},
		"Google: an unsigned token":           {bearer("Bearer " + part([]byte(`{"alg":"none"}`)) + "." + part([]byte(`{}`)) + "."), 401, "not signed with RS256"},
		"Google: signed with another key":     {bearer("Bearer " + signToken(t, jose.RS256, rsaKey, nil)), 401, "the token is not Google's"},
		"Google: signed in another way":       {bearer("Bearer " + signToken(t, jose.ES256, ecKey, nil)), 401, "not signed with RS256"},
		"Google: an expired token":            {token(func(c map[string]any) { c["exp"] = time.Now().Add(-time.Minute).Unix() }), 401, "has expired"},
		"Google: for another audience":        {token(func(c map[string]any) { c["aud"] = "https://other.example.com" }), 401, "another audience"},
		"Google: of another service account":  {token(func(c map[string]any) { c["email"] = "eve@acme-prod.iam.gserviceaccount.com" }), 401, "another service account"},
		"Google: an email that is unverified": {token(func(c map[string]any) { c["email_verified"] = false }), 401, "another service account"},
		"Google: of another issuer":           {token(func(c map[string]any) { c["iss"] = "https://evil.example.com" }), 401, "another issuer"},
		"Google: certificates that cannot be had": {func(r *fixture) call {
			r.google.mu.Lock()
			defer r.google.mu.Unlock()
			r.google.away = true
			c := post("google", "{}")
			c.header.Set("Authorization", "Bearer "+r.google.token(t, nil))
			return c
		}, 503, "send it again"},
		// Pub/Sub repeats what is not acknowledged: what can never succeed is.
		"Google: an unknown secret":         {func(r *fixture) call { return r.push("1", "SECRET_ROTATE", "projects/123456789/secrets/other") }, 200, "no key that this source may trigger"},
		"Google: a secret of another place": {func(r *fixture) call { return r.push("1", "SECRET_ROTATE", "projects/666/secrets/openai-prod") }, 200, "no key that this source may trigger"},
		"Google: a secret twice": {func(r *fixture) call {
			c := r.push("1", "SECRET_ROTATE", secretName)
			c.body = strings.Replace(c.body, `"secretId":`, `"secretID":"projects/123456789/secrets/payments","secretId":`, 1)
			return c
		}, 200, "not the JSON of a wrapped"},
		"Google: no wrapped message": {func(r *fixture) call { c := r.push("1", "", ""); c.body = `{"name":"BODYMARK"}`; return c }, 200, "set to unwrap?"},
		"Google: oversized":          {func(r *fixture) call { c := r.push("1", "", ""); c.body = strings.Repeat("x", 300<<10); return c }, 200, "larger than 256 KiB"},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t)
			status, answer := r.send(tc.call(r))
			if status != tc.status || answer["status"] != "refused" || !strings.Contains(answer["reason"], tc.reason) {
				t.Errorf("the answer is %d %v", status, answer)
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			if len(r.started) > 0 {
				t.Errorf("it started %+v", r.started)
			}
			if log := r.logs.String(); !strings.Contains(log, `"msg":"a delivery is refused"`) || !strings.Contains(log, `"remote":"127.0.0.1"`) {
				t.Errorf("the log does not say so: %s", log)
			}
		})
	}
}
