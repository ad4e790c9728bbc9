//! The six proxies: what is special about each. Their configurations are those of docs/proxies.md; here is what makes of one a program
//! that runs in a folder of its own.

/// A proxy. In its texts HOME is its folder, PORT and ADDRESS where it listens, SNIPPET what docs/proxies.md says, SECONDS a duration.
#[derive(Debug)]
pub(crate) struct Kind {
    /// Its section in docs/proxies.md.
    pub(crate) name: &'static str,
    /// Debian's package.
    pub(crate) package: &'static str,
    pub(crate) binary: &'static str,
    pub(crate) arguments: &'static [&'static str],
    /// The configuration around the snippet.
    pub(crate) around: &'static str,
    /// Where the snippet says where to listen, and what a test says instead.
    pub(crate) listen: (&'static str, &'static str),
    /// Where silence is bounded: behind these words stand those.
    pub(crate) silence: (&'static str, &'static str),
    /// Where compression is switched on: behind these words stands the section's second block.
    pub(crate) compression: Option<&'static str>,
    /// In how it asks lastword: the version, and behind which words it is said, if not by default.
    pub(crate) versions: &'static [(&'static str, Option<(&'static str, &'static str)>)],
}

pub(crate) static NGINX: Kind = Kind {
    name: "nginx",
    package: "nginx",
    binary: "nginx",
    arguments: &["-e", "stderr", "-c", "HOME/config", "-p", "HOME"],
    // One process, so that to kill it is to end it.
    around: "daemon off; master_process off; pid nginx.pid; error_log stderr;
        events {}
        http {
            access_log off;
            client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
            uwsgi_temp_path uwsgi; scgi_temp_path scgi;
            SNIPPET
        }",
    // A bound on what its sockets hold (else up to 10 MB), so that lastword feels a client that stalls.
    listen: ("listen 80;", "listen ADDRESS sndbuf=64k;"),
    silence: ("proxy_pass http://127.0.0.1:8080;", " proxy_read_timeout SECONDSs;"),
    compression: Some("scgi_temp_path scgi;"),
    versions: &[
        ("1.0", None),
        (
            "1.1",
            Some(("proxy_pass http://127.0.0.1:8080;", " proxy_http_version 1.1; proxy_set_header Connection \"\";")),
        ),
    ],
};

static HAPROXY: Kind = Kind {
    name: "HAProxy",
    package: "haproxy",
    binary: "haproxy",
    arguments: &["-db", "-f", "HOME/config"],
    around: "SNIPPET",
    listen: ("bind :80\n", "bind ADDRESS\n"),
    silence: ("timeout server 60s\n", "timeout client SECONDSs\ntimeout server SECONDSs\n"),
    compression: Some("bind :80\n"),
    versions: &[("1.1", None)],
};

static CADDY: Kind = Kind {
    name: "Caddy",
    package: "caddy",
    binary: "caddy",
    arguments: &["run", "--adapter", "caddyfile", "--config", "HOME/config"],
    around: "{\n admin off\n auto_https off\n}\nSNIPPET",
    listen: (":80 {\n", ":PORT {\n bind 127.0.0.1\n"),
    silence: ("reverse_proxy 127.0.0.1:8080", " {\n transport http {\n read_timeout SECONDSs\n }\n }\n"),
    compression: Some(":80 {\n"),
    versions: &[("1.1", None)],
};

static VARNISH: Kind = Kind {
    name: "Varnish",
    package: "varnish",
    binary: "varnishd",
    arguments: &["-F", "-n", "HOME/work", "-a", "ADDRESS", "-f", "HOME/config", "-s", "default,32m"],
    around: "SNIPPET",
    listen: ("", ""),
    silence: (".port = \"8080\";", " .first_byte_timeout = SECONDSs; .between_bytes_timeout = SECONDSs;"),
    compression: Some("}\n"),
    versions: &[("1.1", None)],
};

static APACHE: Kind = Kind {
    name: "Apache",
    package: "apache2",
    binary: "apache2",
    arguments: &["-X", "-f", "HOME/config"],
    around: "ServerRoot HOME
        ServerName localhost
        PidFile HOME/pid
        DefaultRuntimeDir HOME
        ErrorLog /dev/stderr
        Listen ADDRESS
        LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
        LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
        LoadModule env_module /usr/lib/apache2/modules/mod_env.so
        LoadModule filter_module /usr/lib/apache2/modules/mod_filter.so
        LoadModule deflate_module /usr/lib/apache2/modules/mod_deflate.so
        LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
        LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so
        SNIPPET",
    listen: ("<VirtualHost *:80>\n", "<VirtualHost ADDRESS>\n"),
    silence: ("ProxyPass / http://127.0.0.1:8080/", " timeout=SECONDS"),
    compression: Some("</VirtualHost>\n"),
    versions: &[
        ("1.1", None),
        ("1.0", Some(("<VirtualHost *:80>\n", "SetEnv force-proxy-request-1.0 1\nSetEnv proxy-nokeepalive 1\n"))),
    ],
};

static SQUID: Kind = Kind {
    name: "Squid",
    package: "squid",
    binary: "squid",
    arguments: &["-N", "-f", "HOME/config"],
    around: "access_log none
cache_log /dev/stderr
pid_filename HOME/pid
coredump_dir HOME
pinger_enable off
SNIPPET",
    listen: ("http_port 80 ", "http_port ADDRESS "),
    silence: ("cache deny all\n", "read_timeout SECONDS seconds\n"),
    compression: None,
    versions: &[("1.1", None)],
};

pub(crate) static KINDS: [&Kind; 6] = [&NGINX, &HAPROXY, &CADDY, &VARNISH, &APACHE, &SQUID];

impl Kind {
    /// Of Debian 12's Caddy alone: whatever happens upstream, it ends a body as if it were whole.
    pub(crate) fn ends_everything_clean(&self) -> bool {
        self.name == "Caddy"
    }
}
