package googlesa

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/url"
	"regexp"
	"strings"

	"github.com/rekeyhq/rekey/internal/googleapi"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
)

// maxFile is far more than a key file needs.
const maxFile = 64 << 10

// credentials is a key file as we store it: Google's fields in Google's order. Whoever supplies a file could point
// its addresses at himself (applications send signed assertions to token_uri), so every address is ours.
type credentials struct {
	Type                string `json:"type"`
	ProjectID           string `json:"project_id,omitempty"`
	PrivateKeyID        string `json:"private_key_id"`
	PrivateKey          string `json:"private_key"`
	ClientEmail         string `json:"client_email"`
	ClientID            string `json:"client_id,omitempty"`
	AuthURI             string `json:"auth_uri"`
	TokenURI            string `json:"token_uri"`
	AuthProviderCertURL string `json:"auth_provider_x509_cert_url"`
	ClientCertURL       string `json:"client_x509_cert_url"`
	UniverseDomain      string `json:"universe_domain"`
}

var (
	emailForm     = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*@([a-z0-9][a-z0-9.-]*\.)?gserviceaccount\.com$`)
	userAccount   = regexp.MustCompile(`^[a-z0-9-]+@([a-z0-9.-]+)\.iam\.gserviceaccount\.com$`)
	keyIDForm     = regexp.MustCompile(`^[0-9a-f]{16,64}$`)
	projectIDForm = regexp.MustCompile(`^([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$`)
	clientIDForm  = regexp.MustCompile(`^[0-9]{1,32}$`)
)

// projectOf reads the project from an account's email; empty if the email does not say (default accounts of
// App Engine and Compute Engine). Google's docs: name@project.iam.gserviceaccount.com; a domain-scoped project
// example.com:app has accounts at app.example.com.iam.gserviceaccount.com.
func projectOf(account string) string {
	m := userAccount.FindStringSubmatch(account)
	if m == nil {
		return ""
	}
	if id, domain, scoped := strings.Cut(m[1], "."); scoped {
		return domain + ":" + id
	}
	return m[1]
}

// complete fills in everything that does not come from the file.
func (p *Provider) complete(keyID, account, privateKey string) credentials {
	return credentials{
		Type: "service_account", ProjectID: projectOf(account),
		PrivateKeyID: keyID, PrivateKey: privateKey, ClientEmail: account,
		AuthURI:             "https://accounts.google.com/o/oauth2/auth",
		TokenURI:            p.opts.TokenURL,
		AuthProviderCertURL: "https://www.googleapis.com/oauth2/v1/certs",
		ClientCertURL:       "https://www.googleapis.com/robot/v1/metadata/x509/" + url.QueryEscape(account),
		UniverseDomain:      googleapi.UniverseDomain,
	}
}

// value is the file's text: the same credentials give the same bytes, so a key keeps its fingerprint.
func (c credentials) value() secret.Value {
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		panic("a struct of strings always encodes")
	}
	return secret.New(text)
}

// read takes from a supplied key file what we know, checked, and leaves the rest behind.
func (p *Provider) read(v secret.Value) (credentials, error) {
	refuse := func(code, advice string) (credentials, error) {
		return credentials{}, fault.New(fault.Rejected, code, p.doing("read a key file")).WithAdvice("%s", advice)
	}
	text := unquoted(v.Reveal())
	if len(text) > maxFile {
		return refuse("too_long", "The value is too long for a key file.")
	}
	var fields map[string]any
	if json.Unmarshal([]byte(text), &fields) != nil || fields == nil {
		return refuse("not_json", "The value is not JSON: give the whole key file as Google offers it for download, from { to }.")
	}
	// Exact names: decoding into a struct would also take "Private_Key".
	field := func(name string) string {
		s, _ := fields[name].(string)
		return strings.TrimSpace(s)
	}
	if field("type") != "service_account" {
		return refuse("wrong_type", "This is not the key file of a service account: its type must be service_account.")
	}
	if d := field("universe_domain"); d != "" && d != googleapi.UniverseDomain {
		return refuse("wrong_universe", "The key file belongs to another cloud than googleapis.com.")
	}
	email := field("client_email")
	if !emailForm.MatchString(email) {
		return refuse("bad_client_email", "The key file's client_email is missing or is not the email of a service account.")
	}
	if !keyIDForm.MatchString(field("private_key_id")) {
		return refuse("bad_private_key_id", "The key file's private_key_id is missing or is not a key id.")
	}
	if id := field("client_id"); id != "" && !clientIDForm.MatchString(id) {
		return refuse("bad_client_id", "The key file's client_id is not a number.")
	}
	_, key, ok := readPrivateKey(field("private_key"))
	if !ok {
		return refuse("bad_private_key", "The key file's private_key is missing or damaged: it must be an RSA key in PEM, with its BEGIN and END lines.")
	}
	c := p.complete(field("private_key_id"), email, key)
	c.ClientID = field("client_id")
	if c.ProjectID == "" && projectIDForm.MatchString(field("project_id")) {
		c.ProjectID = field("project_id")
	}
	return c, nil
}

// unquoted takes away what a paste leaves around a file.
func unquoted(text string) string {
	text = strings.TrimSpace(strings.TrimPrefix(text, "\ufeff"))
	for _, q := range []string{"'", "\"", "`"} {
		if inner, ok := strings.CutPrefix(text, q); ok {
			if inner, ok = strings.CutSuffix(inner, q); ok {
				return strings.TrimSpace(inner)
			}
		}
	}
	return text
}

// readPrivateKey reads an RSA key in PEM (PKCS #8 as Google writes it, or PKCS #1) and returns it in the one
// form that we store.
func readPrivateKey(text string) (*rsa.PrivateKey, string, bool) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		return nil, "", false
	}
	var key *rsa.PrivateKey
	switch block.Type {
	case "PRIVATE KEY":
		any, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, "", false
		}
		key, _ = any.(*rsa.PrivateKey)
	case "RSA PRIVATE KEY":
		key, _ = x509.ParsePKCS1PrivateKey(block.Bytes)
	}
	if key == nil {
		return nil, "", false
	}
	canonical, err := writePrivateKey(key)
	return key, canonical, err == nil
}

func writePrivateKey(key *rsa.PrivateKey) (string, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), nil
}
