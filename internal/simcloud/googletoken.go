package simcloud

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	jwtBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	// clockLeeway is how far iat may lie in the future.
	clockLeeway = time.Minute
	// InjectedFailure is the text that is in every injected failure; tests look for it where no text of a
	// server may be.
	InjectedFailure = "injected failure"
)

// grant is what a token request claims, not yet verified.
type grant struct {
	jwt.Claims
	Scope string `json:"scope"`
	keyID string
	token *jwt.JSONWebToken
}

// claimed reads a token request without believing it.
func claimed(r *http.Request) (g grant, ok bool) {
	token, err := jwt.ParseSigned(r.PostFormValue("assertion"), []jose.SignatureAlgorithm{jose.RS256})
	if err != nil || len(token.Headers) != 1 || token.UnsafeClaimsWithoutVerification(&g) != nil {
		return grant{}, false
	}
	g.token, g.keyID = token, token.Headers[0].KeyID
	return g, true
}

// routeOfToken names the key that a request claims to be signed with.
func routeOfToken(r *http.Request) (method, target string) {
	if g, ok := claimed(r); ok {
		return "Token", g.Issuer + "/keys/" + g.keyID
	}
	return "Token", ""
}

func failToken(w http.ResponseWriter, code int) {
	name := "internal_failure"
	if code == http.StatusBadRequest || code == http.StatusUnauthorized {
		name = "invalid_grant"
	}
	refuseToken(w, code, name, InjectedFailure)
}

func refuseToken(w http.ResponseWriter, code int, name, words string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": name, "error_description": words})
}

// tokenHandler is the JWT bearer grant of https://oauth2.googleapis.com/token (Google's page "Using OAuth 2.0 for
// server to server applications"; the words of the refusals are those that its users report).
func (g *GoogleIAM) tokenHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		if r.PostFormValue("grant_type") != jwtBearer {
			refuseToken(w, http.StatusBadRequest, "unsupported_grant_type", "Invalid grant_type: "+r.PostFormValue("grant_type"))
			return
		}
		name, words := g.judge(r)
		if name != "" {
			refuseToken(w, http.StatusBadRequest, name, words)
			return
		}
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": "ya29." + randomHex(48), "expires_in": 3599, "token_type": "Bearer"})
	})
	return mux
}

// judge returns the error of a token request; none if it is good.
func (g *GoogleIAM) judge(r *http.Request) (name, words string) {
	c, ok := claimed(r)
	if !ok {
		return "invalid_grant", "Invalid JWT: assertion is not a JWT signed with RS256."
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	a := g.accounts[c.Issuer]
	if a == nil {
		return "invalid_grant", "Invalid grant: account not found"
	}
	// Unknown, deleted, disabled and not yet propagated keys all look the same (vault-plugin-secrets-gcp issue 111).
	k := a.find(c.keyID)
	if k == nil || !k.accepted(g.cloud.Now()) || c.token.Claims(k.public, &grant{}) != nil {
		return "invalid_grant", "Invalid JWT Signature."
	}
	if len(c.Audience) != 1 || c.Audience[0] != g.TokenURL {
		return "invalid_grant", "Invalid JWT: Failed audience check."
	}
	// The client dates its request with the machine's clock, whatever the time in this cloud is.
	now := time.Now().Add(g.opts.ClockSkew)
	if c.IssuedAt == nil || c.Expiry == nil || c.IssuedAt.Time().After(now.Add(clockLeeway)) || !c.Expiry.Time().After(now) ||
		c.Expiry.Time().Sub(c.IssuedAt.Time()) > time.Hour {
		return "invalid_grant", "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values in the JWT claim."
	}
	if c.Scope == "" {
		return "invalid_scope", "Invalid OAuth scope or ID token audience provided."
	}
	return "", ""
}
