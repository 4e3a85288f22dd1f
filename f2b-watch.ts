#!/usr/bin/env -S bun
/**
 * f2b-watch posts what fail2ban logs to Discord and Slack: in order and across rotations, nothing
 * lost and nothing twice.
 *
 *   bun f2b-watch.ts --dry-run --format events     shows what would be sent
 *   DISCORD_WEBHOOK=https://discord.com/api/webhooks/… bun f2b-watch.ts --format events
 *                                                  a run, as cron starts it every minute
 *   bun f2b-watch.ts help                          everything else
 *
 * The way of one line of the log:
 *   `isIdle` ends most runs, because nothing is new
 *   → `pass` opens a `session` for each log: one run works, the others make a mark for it and exit
 *   → `planRead` compares the saved position with the files and says where to read
 *   → `LogSource` cuts a message: whole lines, without secrets, under 2000 characters
 *   → `deliver` waits until it may, notes what is in doubt, saves what has arrived
 *   → `post` makes the request with `fetch` and reads the verdict
 *
 * Read it top to bottom: what is saved → the core, from secrets and the grammar to words, plans and
 * verdicts → the World, through which effects go → the pass and the other commands, which decide
 * with the core and act through the World → options, variables, help and main.
 */
import { Buffer, isAscii } from "node:buffer";
import * as fs from "node:fs";
import { basename, dirname, resolve } from "node:path";
import type * as Cac from "cac";
import type * as Zod from "zod/mini";

// ── Constants ───────────────────────────────────────────────────────────────────────────────────
// What several sections share; other limits are beside what uses them.

const VERSION = "1.1.0";

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const NEWLINE = 10;
const CUT_MARK = "…";
const RESENT_MARK = "(resent)\n";
/** Host names are cut, so that a message always has room for lines. */
const HOST_LIMIT = 80;

// ── Types and schemas ───────────────────────────────────────────────────────────────────────────
// A schema and its type share one name. What a working run reads from its state is validated here.

/** Of zod, what is used: loaded when something is to be validated, which in an idle run nothing is. */
let z: Awaited<ReturnType<typeof loadZod>>;

/** By name, so that the rest of it is not in the binary, nor in its memory. */
// prettier-ignore
async function loadZod() {
  const {
    _default, array, boolean, catch: otherwise, enum: oneOf, int, literal, minimum, number, object,
    optional, pipe, record, refine, regex, safeParse, string, transform, tuple, unknown,
  } = await import("zod/mini");
  return {
    _default, array, boolean, catch: otherwise, enum: oneOf, int, literal, minimum, number, object,
    optional, pipe, record, refine, regex, safeParse, string, transform, tuple, unknown,
  };
}

/** Makes a schema when it is first used. */
function lazily<Made>(make: () => Made): () => Made {
  let made: { value: Made } | undefined;
  return () => (made ??= { value: make() }).value;
}

/** What is saved for a log. */
const State = lazily(() => {
  const count = z.int().check(z.minimum(0));
  /** Proves where a reader stood: the bytes before `offset` do, names and inodes do not. */
  const anchor = {
    offset: count,
    lastLineHash: z.string(),
    /** The first states had several: the last one counts. */
    headHash: z.array(z.string()),
  };
  const cursor = z.object({
    ...anchor,
    /** In this file. */
    lines: count,
    lastTime: z.optional(z.string()),
    /** The first time in this file. */
    began: z.optional(z.string()),
    /** Lines that were sent, newest first, ever fewer of the older ones: number, mark and time. */
    trail: z.optional(z.array(z.tuple([z.number(), z.string(), z.string()]))),
  });
  /** A back-off: requested by the destination, or set after failures. */
  const pause = z.object({
    setAt: z.number(),
    until: z.number(),
    stepMs: z.number(),
    exitCode: z.number(),
    why: z.string(),
    hint: z.optional(z.string()),
    /** With these settings only: a destination that refuses is asked again when they change. */
    settings: z.optional(z.string()),
  });
  const progress = z.object({
    cursor: z.optional(cursor),
    /** What earlier messages carried of the next line: so many characters of this hash's line. */
    part: z.optional(z.object({ sent: count, line: z.string() })),
    /** Lines ever consumed: says which destination is furthest. */
    total: count,
    finished: z.array(z.object(anchor)),
    /** A gap was found, and what is left of the files behind it is still being read. */
    gap: z.boolean(),
    /** Something that the next message must say. */
    notice: z.optional(z.string()),
    /** It was said that the log's lines are not fail2ban's. */
    foreign: z.optional(z.boolean()),
    /** Words for lines that the cursor has left behind; so much of them was sent. */
    outbox: z.optional(z.object({ text: z.string(), sent: count, file: z.optional(z.string()) })),
    /** Addresses whose ban does not work, by fingerprint, and when that was sent. */
    warned: z.optional(z.record(z.string(), z.number())),
    /** The rotated file that the cursor is in, since when, how many runs found lines in it. */
    held: z.optional(z.object({ name: z.string(), since: z.number(), passes: z.optional(count) })),
    /** The log as it was when it had been sent to its end. */
    drained: z.optional(z.object({ file: z.string(), writtenMs: z.number() })),
    /** Compressed siblings that are done with, by their contents, and files that were reported. */
    known: z.optional(z.array(z.string())),
    /** The siblings as the last run left them: a hint that there is nothing new in them. */
    listing: z.optional(z.string()),
    /** So much of what comes next may have arrived already: a run died or an answer got lost. */
    doubt: z.optional(z.object({ lines: count, characters: count })),
    /** How many of the next lines contain a refused one, if any is known to. */
    suspects: z.optional(count),
  });
  /** What must be known of a destination to post to it, whatever is posted. */
  const channel = z.object({
    posts: z.array(z.number()),
    /** What the service's headers asked for after the last post. */
    asked: z.optional(z.object({ at: z.number(), delayMs: z.number() })),
    pause: z.optional(pause),
    /** fail2ban's socket could not be reached at the last ping, and whether that was sent. */
    down: z.optional(z.object({ since: z.number(), told: z.boolean() })),
    /** The jails and bans that `status --send` sent it last, as a fingerprint. */
    status: z.optional(z.string()),
    /** A text beside the log's lines that may have arrived, as a fingerprint. */
    doubt: z.optional(z.string()),
  });
  const failure = z.object({
    since: z.number(),
    told: z.number(),
    exitCode: z.number(),
    /** A fingerprint of settings and words: with another one it is another failure. */
    reason: z.optional(z.string()),
  });
  return z.object({
    version: z.literal(1),
    log: z.string(),
    destinations: z.record(z.string(), progress),
    // The first states had none.
    channels: z._default(z.record(z.string(), channel), {}),
    failures: z.record(z.string(), failure),
    /** Fingerprints of validated options and variables, and the destinations that they name. */
    validated: z.optional(z.object({ marks: z.array(z.string()), names: z.array(z.string()) })),
  });
});
type State = Zod.infer<ReturnType<typeof State>>;
type Progress = State["destinations"][string];
type Anchor = Progress["finished"][number];
type Cursor = NonNullable<Progress["cursor"]>;
type Channel = State["channels"][string];
type Pause = NonNullable<Channel["pause"]>;

/** A failure that a person can act on, reported in one line, with a hint where one helps. */
class Fault extends Error {
  readonly exitCode: number;
  readonly hint: string | undefined;
  constructor(exitCode: number, message: string, hint?: string) {
    super(message);
    this.exitCode = exitCode;
    this.hint = hint;
  }
}

// ── Core: text ──────────────────────────────────────────────────────────────────────────────────
// Pure. Log text goes in, text that can neither leak a secret nor break a message comes out; lines
// keep their number and order. Linear in the text's length whatever it holds.
// Secrets come with commands and configuration, so a jail's usual lines, whose ids are anybody's
// text, are let through after one look, and all other lines are read closely and hidden generously.

// Patterns are text until they are needed: an idle run needs none. In a table of them each line is
// one, a deeper line continues it, and two blanks and `# ` begin a comment.

/** Pieces of patterns; in a table `{slash}` means the first one. */
const PIECES: Readonly<Record<string, string>> = {
  slash: String.raw`(?:\\?/|%2F)`,
  inUrl: String.raw`[^\s"'<>]`,
  quote: String.raw`[$]?\\{0,8}["']|%(?:25)?22|\\u0022|&(?:quot|#34);`,
  blanks: String.raw`(?:[ \t]|\\{1,3}(?:\n|n))*`,
  directory: "/(?:etc|var|root|home|usr|opt|run|srv|tmp|dev|proc|mnt)",
  between: String.raw`(?:[ \t=]|\\{1,3}(?:\n|n)|["'],[ \t]*(?=["']))*`,
  slugPart: String.raw`(?:[a-z]*(?:[A-Z][a-z]+)*|[A-Z]+|\d+)`,
  argument: String.raw`(?:"[^"\n]*"|'[^'\n]*'|\S+) +`,
  readsSecret: "sudo -S|kinit|chpasswd|cryptsetup|[- ]stdin|--with-token|--passphrase-fd",
  stamp: String.raw`\d\d\d\d-\d\d-\d\d \d\d:\d\d:\d\d`,
};

const TABLES = {
  /** Most jails' lines about an address, and about a jail's start. Fast: loops that repeat little. */
  usualLines: String.raw`
  (?:{stamp},\d\d\d fail2ban\.(?:filter         |actions        )\[\d+\]:[ ]
    (?:INFO    |NOTICE  |WARNING )\[[\w-]{1,50}\] (?:(?:Found|Ban|Unban|Restore Ban) )?
    [\da-f.:]{2,45}(?: - {stamp}| already banned)?\n){1,999}
  (?:{stamp},\d\d\d fail2ban\.[a-z]{2,12} {0,24}\[\d+\]: INFO {4,6}
    (?:(?:maxLines|maxRetry|findtime|banTime): -?\d+|encoding: [\w-]{1,16}|-+
    |Initiated '\w{1,16}' backend|Creating new jail '[\w-]{1,50}'
    |Jail '[\w-]{1,50}' (?:started|stopped|reloaded|uses \w{1,16} \{\}))\n){1,999}`,
  /** A jail's line about any id. No part of a command is like it: one time, no quote, no more. */
  jailLine: String.raw`
  [^"'\\=:\n]{0,120}\d\d:\d\d:\d\d(?:(?!ERROR| -- )[^"'\\=\n]){0,120} (?:INFO|NOTICE|WARNING) {1,4}
    \[[^\]"\\\n]{1,64}\] (?:(?:Found|(?:Restore |Increase |Repeal )?Ban|Reban|Unban)
    [ ][^ "'\\\x60\t\r\n]{1,512}(?: - [\d-]{10} [\d:]{8}| \(\d+ # [\w ,:]+ -> [\d :-]+\))?
    |[^ "'\\\x60\t\r\n]{1,512} already banned)\r?\n`,
  /** URLs that post to a channel of Discord, Slack or Telegram. A first group stays readable. */
  channels: String.raw`
  (webhooks{slash})\d+{slash}{inUrl}+
  (hooks\.slack(?:-gov)?\.com{slash}){inUrl}+
  (/bot|%2Fbot)\d+(?::|%3A)[^\s"'<>/\\]+`,
  /** What is a secret wherever it is, in any case of its letters. */
  shapes: String.raw`
  # Tokens that their vendors give a shape of their own.
  \b(?:gh[opsur]_\w{16,}|github_pat_\w+|gl[a-z]{1,6}-[\w-]{16,}  # GitHub, GitLab
    |A(?:KIA|SIA)(?=\w{0,16}\d)\w{12,}|AIza[\w-]{20,}|ya29\.[\w.-]+|GOCSPX-[\w-]+  # AWS, Google
    |SG\.[\w-]{16,}\.[\w-]{40,}|key-[0-9a-f]{32}|xkeysib-[\w-]+  # SendGrid, Mailgun, Brevo
    |[spr]k_(?:live|test)_\w+|whsec_\w+|shp[a-z]{2}_\w{16,}|sq0[a-z]{3}-[\w-]+  # Stripe, Shopify
    |sk-[\w-]{20,}|hf_\w{20,}|npm_\w{20,}|pypi-[\w-]{20,}  # OpenAI, Hugging Face, npm, PyPI
    |do[opr]_v1_\w+|hv[bsr]\.[\w-]{20,}|dckr_pat_[\w-]+  # DigitalOcean, Vault, Docker
    |glsa_\w+|NR(?:AK|II|JS|RA|BR)-\w+|PMAK-[\w-]+|ATATT\w[\w=-]+  # Grafana, New Relic
    |sy[tl]_\w{16,}|tk_\w{16,}|o\.\w{32}|SCT\d\w{15,}  # Matrix, ntfy, Pushbullet, ServerChan
    |tskey-[\w-]+|AGE-SECRET-KEY-\w+|lin_api_\w+|cf[a-z]{2}_\w{20,}  # Tailscale, age, Linear
    |(?<!-)eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?|\d{6,10}(?::|%3A)[\w-]{30,}  # JWT, Telegram
    |(?:xox[a-z]|xapp|xwfp|xoxe\.xox[a-z])-(?=[\w%-]{0,80}\d)[\w%-]+)  # Slack
  (\.[\w-]{6}\.)[\w-]{27,}  # the parts of a Discord bot's token
  (-----BEGIN [A-Z ]{0,32}PRIVATE KEY-----)(?:(?:\s|\\n)*[A-Za-z0-9+/=]{8,})+  # in PEM, or with \n
  # Services whose whole path is the secret, and what comes before the secret part of a path.
  (services{slash}(?=T[A-Z\d]+{slash}B)|\bntfy\.sh/|(?:webhookb2|IncomingWebhook){slash}){inUrl}+
  (//(?:hooks?\.[\w.-]*|[\w.-]*(?:hc-ping\.com|ftqq\.com|api\.day\.app|webhook\.site|notify\.run
    |nosnch\.in|simplepu\.sh|simplepush\.io|make\.com|integromat\.com|cronitor\.link|ifttt\.com
    |zendee\.cn|pipedream\.net))[\w.:-]{0,80}/){inUrl}+
  ({slash}(?:(?:web-?)?hooks?b?2?|webhookbot|workflows|triggers?|integrations?|catch|robot|send
    |sendMessage|push|ping|heartbeat|key|token|api[_-]?key|bot|invoke|alert|incidents|incoming)
    {slash})(?<=(?:{slash}{slash}|url: ?|{slash}api{slash}){inUrl}{0,200})(?={inUrl}{0,80}?
    (?:[A-Za-z]\d|\d[A-Za-z]|[A-Z][a-z]+[A-Z]|[a-z]{16}|_[a-z])){inUrl}{8,}
  # A scheme of no program or protocol is Apprise's or its like: each part may be a key.
  (://)(?<=\b[a-z][a-z0-9+.-]{1,20}://)(?<!\b(?:https?|wss?|s?ftps?|ssh|scp|git|svn|rsync|file|tcp
    |udp|unix|tls|ssl|ldap[si]?|smtps?|imaps?|pop3s?|mysql|mariadb|postgres(?:ql)?|rediss?
    |mongodb(?:\+srv)?|amqps?|mqtts?|socks\w*|nfs|smb|telnet|sips?|docker|oci|db|kafka|etcd
    |memcached?|influx\w*|clickhouse|syslog|journal|nats|s3|gs|rest)://)(?=[^\s"'<>/]){inUrl}+
  # ://user:password@ up to the last @, where a port is no password; ://key@; user:password@
  (://)[^\s/"'<>:@]{0,128}:(?!\d{1,5}(?:[/?#]|$))[^\s"'<>]{1,256}(?=@)
  (://)(?=[\w-]{0,64}\d)[\w-]{16,128}(?=@)
  (:)(?=[^\s/"'@\\]{5,128}@)(?<=(?:^|[\s/"'=@,;(<])[^\s:/"'=@,;(<\\]{1,128}:)
    (?<!(?:mailto|sips?|xmpp|acct|tel|im):)(?=[^\s@"']*[\dA-Z!#$%^&*+])[^\s/"'@\\]+(?=@)
  # The end of a name, and what is between it and its value. Of a strong name, as API_KEY is, the
  # value is a secret; of a weak one, as sid is, if it looks random.
  (?:(?<strong>(?<!\b(?:mon|hoc|tur|don|joc|whis|dis|hot|lac|pub|public[_-]?))key|token|tkn|secret
    |passw(?:or)?d|passwort|kennwort|passphrase|passcode|(?<!com|by|tres|sur|over|under)pass|pwd|psw
    |pword|(?<![a-z])pin|psk|credentials?|authorization|cookie|jwt|bearer|cli_auth|mdp|senha)
    |(?<![a-z0-9])(?<weak>auth|session(?:_?id)?|sid|sig|signature|code|hmac|otp|dsn|license
    |community|user|webhook|hook|url|id|p|pw))(?:[_-]?\d{1,3}|_base|_value)?(?:\[?\]|%5D)?
    (?:(?<equal>{blanks}(?:\\?=>?|:[=-]|<<<|＝|%(?:25)?3D|\\u003d|&#61;){blanks})  # API_KEY=x
    |(?<colon>[ \t]*:{blanks})  # X-Api-Key: x
    |(?<closed>(?:{quote}){1,2})[}\]]{0,2}  # 'api_key': 'x', ("api_key", "x")
    {blanks}(?:[:,]|=>?|%3[AD]){blanks}(?:\[|string\(\d+\) )?
    |(?<tag>(?:[ \t][^<>\n]{0,80})?>|</name>\s*<value>(?:<string>)?)  # <api_key>x
    |(?<blank>(?:[ \t]|\\\n){blanks}))  # --api-key x`,
  /** Values that are no secret: addresses, small numbers, variables, paths, words for a setting. */
  noSecret: String.raw`
  ^(?:(?:basic|bearer|token|key|bot) )?(?:\[redacted.*|true|false|yes|no|on|off|none|null|nil|stdin
    |undefined|\d{1,2}|0x[\da-f]+|<[\w./+=-]+>?|\*+|\.{3}|[<@](?:-|[.~]?/.*)|%\w.{0,2}|%\(.*|\x60.*
    |(?:\d{1,3}(?:\.\d{1,3}){3}|[\da-f]{0,4}:[\da-f]*:[\da-f:.]*)(?:/\d+)?|[$][\w@-]+|[$][{(].*
    |~?\.{0,2}{directory}/.*|[\w./~-]+\.(?:pem|key|crt|cnf|txt|json|conf|ya?ml|py|sh))[,;)]*$`,
  /** What is a secret in just these letters. */
  exactShapes: String.raw`
  # A word as long as a key that looks like one: mixed, or of a known length. No path, no value.
  (?<![\w.+:=-]|%3D)(?=\w[\w-]{23})(?![\w-]*[Ff]ail2[Bb]an)(?=[\w-]*\d)
    (?!{slugPart}(?:[_-]{slugPart})*(?![\w-]))
    (?:(?=[\w-]*[a-z])(?=[\w-]*[A-Z])[\w-]+={0,2}|[0-9a-f]{80}(?![\w-])|[au][a-z0-9]{29}(?![\w-]))
    (?<!(?:^|\s)[^\s:]{0,200}/[\w-]+={0,2})
  # curl -u user:password, and its like, but not of programs whose -u is something else
  (?<login>(?<=^|[\s"'(\x60]|\\n)(?:-[A-Za-z]{0,16}[uUa]
    |--?(?:proxy-|http-)?(?:user(?:pwd)?|auth|login)(?![\w-])|user[ \t]*=[ \t]*(?="[^":\s]{0,128}:))
    (?<!\b(?:docker|podman|date|rsync|sort|cut|logger|notify-send|sudo|chown|install)\b
    [^|;&\n]{0,200}){between}
    (?!["']?(?:[+/]|\d+:\d+(?!\w)|\S{0,99}://)))`,
  /** Programs, their option whose value is a secret, and what comes before that in the value. */
  passwordOptions: String.raw`
  sshpass|mongo\w*|ncftp\w*|smbpasswd|signal-cli|unrar|7za?|login -p; mysql\w*|mariadb\w* -p(?=\S)
  mosquitto_\w+|sqlcmd|bcp|ipmitool|zip|unzip -P; redis-cli -a; ldap\w+ -w; snmp\w+ -[cAX]
  cscli|openssl -k; openssl -pass(?:in|out)? pass:; plink|pscp|psftp|putty -pw; ssh-keygen -[PN]
  ssmtp|swaks|send[eE]mail --?[ax]p; gotify -t(?=[\s=]+["']?[AC][\w.-]{14}(?![\w.-]))
  smbclient|rpcclient|winexe|smbget|net -U [^\s%]{0,64}%; lftp -u [^\s,]{0,64},; x?freerdp /p:
  curl (?:-E|--cert) [^\s:]{1,64}:; nsupdate|rndc -y (?:[\w-]+:){1,2}; net /user:\S+\s
  htpasswd -\w{0,4}b\w{0,4} \S+\s+\S+\s+`,
  /** Statements behind which a secret begins. */
  statements: String.raw`
  -p(?:ass)?(?=[ =](?!\d{1,5}\b))(?<=-u(?:ser(?:name)?)?[ =]?[^\s=]{1,64}[ \t]-p(?:ass)?)[ =]
  \b(?:IDENTIFIED BY|SET PASSWORD[^=\n]{0,64}=|requirepass)[ \t]+  # SQL, Redis
  (?<=["'\n]|quote )(?:AUTH(?! PLAIN| LOGIN)|PASS)[ \t]+  # Redis, FTP
  \bAUTH (?:PLAIN|LOGIN)[ \t]+(?=["']?[\w+/=]{8})  # SMTP
  \blogin[ \t]+\S{1,128}\s+password[ \t]+  # .netrc
  ssword:?[^\n]{0,40}?send(?: --)?[ \t]+  # expect
  \bkey[ \t]+(?:hmac-[\w-]+:)?[\w.-]{1,128}[ \t]+(?=[\w+/]{16})  # nsupdate
  # words in their order: wpa_passphrase ssid password, radclient host auth secret
  \b(?:wpa_passphrase |smbclient (?=["']?//)|isql (?:-\w+ +)*{argument}
    |mc alias set {argument}{argument}|radclient (?:\S+ +){0,8}?(?=auth|acct|status|coa)
    |mysqladmin (?:\S+ +){0,8}?(?=password)) *{argument}
  \b(?:sqlplus|rman|expdp|impdp|sqlldr) +(?:\S+ +){0,4}?["']?[\w$#]{1,64}/
  (?<=[ \t"'])-[A-Za-z][ \t=]+(?=["']?(?!\w*[Ff]ail2[Bb]an)(?=\w*\d)(?=\w*[a-z])(?=\w*[A-Z])\w{12,}
    (?![^\s"']))  # -t aB3dE5gH7jK9
  # login("user", "password"), connect(source, user, password)
  \b(?:login|[aA]uth|BasicAuth)=?\([ \t]*["'][^"'\n]{0,128}["'],[ \t]*(?=["'])
  (?:->__construct|connect)\([^,\n]{0,128},[^,\n]{0,128},[ \t]*(?=["'])
  # password=$(echo password), echo password | docker login --password-stdin, and with <<<
  \b(?:echo|printf)[ \t]+(?:-\w+[ \t]+|["'][^"'\n]{0,16}%s[^"'\n]{0,8}["'][ \t]+){0,4}
    (?:(?<=(?:eval[ =]["']?|(?i:key|pass\w*|pwd|secret|token)=["']?(?:\x60|\$\())\w+[ \t]+)
    |(?=[^|\n]{1,200}\|[^|\n]{0,64}?(?:base64|{readsSecret})))
  <<<[ \t]*(?<=(?:{readsSecret})[^|;\n]{0,100}<<<[ \t]*)`,
};

/** A match with named groups ends before a value; another is a secret but for its first group. */
const patterns = lazily(() => {
  const rowsOf = (text: string) => {
    const rows = text.replace(/ *(?<=\n| {2})# .*/g, "").replace(/\n {3,}/g, "");
    const whole = rows.replace(/\{([a-z]\w*)\}/gi, (_, name: string) => PIECES[name] ?? "");
    return whole.trim().split(/\s*\n\s*/);
  };
  const all = (text: string, flags: string) => rowsOf(text).map((row) => new RegExp(row, flags));
  const one = (text: string, flags: string) => new RegExp(rowsOf(text).join("|"), flags);
  const optionRows = TABLES.passwordOptions.trim().split(/; |\n */);
  const options = optionRows.map((row) => {
    const [programs, option, before = ""] = row.split(" ");
    const program = String.raw`(?:\b|\\n)(?:${programs})\b(?:[^|;\n]{0,100}[ \t"'])?`;
    return `(?<=[ \\t"'])${option}(?<=${program}${option})${PIECES.between}${before}`;
  });
  // mysql -ppassword, SQL's IDENTIFIED BY 'password'
  const places = [...options, ...rowsOf(TABLES.statements)].join("|");
  const channels = all(TABLES.channels, "gi");
  const shapes = [...channels, ...all(TABLES.shapes, "gim"), ...all(TABLES.exactShapes, "gm")];
  return {
    usualLines: one(TABLES.usualLines, "y"),
    jailLine: one(TABLES.jailLine, "y"),
    channels,
    secrets: [...shapes, new RegExp(`(?<option>${places})`, "g")],
    noSecret: one(TABLES.noSecret, "i"),
    inPath: new RegExp(String.raw`(?<![\w:])${PIECES.directory}/[\w./-]*$`),
    looksRandom: /^(?=.*\d)(?=.*[a-z])[\x21-\x7e]{8,}$|^(?=.*[a-z])(?=.*[A-Z])[\w-]{16,}$/i,
    // What comes before a name: a quote or `<`, and the name's beginning.
    beforeName: /(?<=(\\{0,8}["'])?(<\/?)?([\w.:[-]{0,64}))/y,
    opening: one("{quote}", "y"),
    // A bare word: up to a blank, to a quote, or to the next parameter.
    bare: one(
      String.raw`(?:[^\s"'\\&<>]|\\{1,8}(?:["'](?=\w)|[^\s"'\\nt]|[nt](?=[a-z])|[ ](?=\S))
        |&(?![&\s"']|[\w.%-]{1,64}=)|<(?!/))+`,
      "y",
    ),
    // What continues a word behind its quote or its end: 'a':'b', "a"b, a"b", 'a'"b", 'a'\''b'.
    joined: /[\w$#!]|:["'\w]|\\''|\\{0,8}["'][\w$#!@]/y,
    // A header's value without quotes.
    header: /(?:="[^"\n]*"|='[^'\n]*'|(?! --?[A-Za-z])[^"'\n])*/y,
  };
});

/** The end of a sticky pattern's match at a place; the place itself when there is none. */
function endOf(pattern: RegExp, text: string, at: number): number {
  pattern.lastIndex = at;
  return pattern.test(text) ? pattern.lastIndex : at;
}

/** Where a quote closes, which is escaped as deep as it was opened; else the line's end. */
function closingOf(quote: string, text: string, from: number): number {
  for (let at = from; at < text.length; at++) {
    if (text[at - 1] !== "\\" && (text[at] === "\n" || text.startsWith(quote, at))) return at;
  }
  return text.length;
}

type Span = [start: number, end: number];

/** The value that begins here: a word, or all up to its name's quote. `whole`: with its blanks. */
function valueAt(text: string, from: number, quote: string, whole: boolean): Span {
  const { opening, header, bare, joined } = patterns();
  const opens = endOf(opening, text, from) > from;
  const isClosed = quote !== "" && text.startsWith(quote, from);
  if (!quote && whole && !opens) return [from, endOf(header, text, from)];
  if (quote && !isClosed && (whole || !opens)) {
    const close = closingOf(quote, text, from);
    const next = whole ? -1 : text.slice(from, close).search(/&[\w.%-]{1,64}=/);
    return [from, next < 0 ? close : from + next];
  }
  let at = isClosed ? from + quote.length : from;
  if (isClosed && !/["'\w]/.test(text[at] ?? "")) return [from, from];
  // The shell's word, without its outer quotes: quoted, bare, or joined of both.
  const start = endOf(opening, text, at);
  for (;;) {
    const inner = endOf(opening, text, at);
    const mark = text.slice(at, inner).replace("$", "");
    const end = mark ? closingOf(mark, text, inner) : endOf(bare, text, inner);
    const after = text.startsWith(mark, end) ? end + mark.length : end;
    if (end === at || endOf(joined, text, after) === after) return [start, end];
    at = after + (text[after] === ":" ? 1 : text.startsWith("\\''", after) ? 2 : 0);
  }
}

/** Where the secret is that a pattern's match shows; nowhere when it is none. */
function secretOf(text: string, match: RegExpExecArray): Span {
  const { noSecret, inPath, looksRandom, beforeName } = patterns();
  const from = match.index + match[0].length;
  if (!match.groups) return [match.index + (match[1]?.length ?? 0), from];
  const { strong = "", weak, equal, closed, colon, tag, blank, login, option } = match.groups;
  // Of `"X-Api-Key": "x"` the mark is `"`, and the front `X-Api-`.
  beforeName.lastIndex = match.index;
  const [, mark = "", bracket, front = ""] = (!login && !option && beforeName.exec(text)) || [];
  const isHeader = colon !== undefined && (front.includes("-") || /^(?:auth|cook)/i.test(strong));
  const quote = tag ? "</" : closed || blank ? "" : mark;
  // Its beginning decides: what is no secret is not read again and again.
  const near = text.slice(from, from + 256);
  const [start, end] = valueAt(near, 0, quote, isHeader);
  const [value, rest] = [near.slice(start, end), near.slice(end)];
  const before = text.slice(Math.max(0, match.index - 264), match.index - front.length);
  const isNamed = () => {
    if (inPath.test(before)) return false;
    if (tag && (weak || (bracket !== "<" && !tag.startsWith("<")))) return false;
    // Its end may be cut off; behind `<token>` in a sentence there are words.
    if (tag) return rest === "" ? !/\s/.test(value) : rest.startsWith("</");
    if (weak) {
      // `--pw x`, `X-Auth: x`; `p` in a URL only, `id` in a header only; `code x` is a sentence.
      if (/^--pw?$/i.test(front + weak) || (isHeader && /^x-$/i.test(front))) return true;
      if (/^p$/i.test(weak) && !/[?&]$/.test(before)) return false;
      if ((closed && start === 0) || (weak === "id" && !isHeader)) return false;
      if (blank && !front.startsWith("-")) return false;
      if (colon && !isHeader && /[^\w+/=.-]/.test(value)) return false;
      return looksRandom.test(value) && !/:\/\/|^\//.test(value);
    }
    if (isHeader) return !/^[a-z]+; /.test(value) && !/^sec-websocket-$/i.test(front);
    if (colon) {
      const isAlone = quote && !/\s/.test(value) && !/std(?:err|out): ["']$/.test(before);
      // In a sentence: more than a small word.
      return start > 0 || isAlone || /^(?!ssh-|ecdsa-|[\w-]+:)(?=\S*[\d!#$%^&+=])\S{6}/.test(value);
    }
    if (blank) {
      if (front.startsWith("-")) return !value.startsWith("-");
      if (/\b(?:action|set)[ \t]+(?:[\w-]+[ \t]+)?$/.test(before)) return !/^[-=]/.test(value);
      // In a sentence: a word with digits.
      const least = start > 0 ? 6 : /^(?:bearer|pass)/i.test(strong) ? 8 : 16;
      return value.length >= least && /^(?=.*\d)(?=.*[a-z])[\w+/=.-]+[),;]?$/i.test(value);
    }
    // Not the next option of a list, nor {"key":"Jail","value":"sshd"}.
    if (closed && start === 0) return /^[\w$]/.test(value) && !match[0].includes(",");
    if (closed && /^-{1,2}[a-z-]+$/i.test(value)) return false;
    if (closed && /^key$/i.test(front + strong)) return !/^["']\s*,\s*["']value["']/.test(rest);
    // Nor `token = self.token`, `self.token = token`.
    const isVariable = value === strong || /^[a-z_]+\.[a-z_.]+(?:\(.*)?$/i.test(value);
    return !(equal?.startsWith(" ") && isVariable);
  };
  // In quotes a user's name may have blanks.
  const beforePassword = start > 0 ? /^[^:\n]{0,128}:(?!\s)["']?/ : /^[^\s:]{0,128}?["']?:["']?/;
  const [user = ""] = (login && beforePassword.exec(value)) || [];
  const password = value.slice(user.length);
  if (end <= start || noSecret.test(password)) return [from, from];
  const isLogin = user !== "" && (password !== "" || looksRandom.test(value));
  if (login ? !isLogin : option ? value.startsWith("-") : !isNamed()) return [from, from];
  return valueAt(text, from, quote, isHeader);
}

/** Replaces each secret by `[redacted]`, in a jail's lines only our own and channels' URLs. */
function redact(lines: string, ownSecrets: readonly string[], closely = true): string {
  let text = lines;
  const longestFirst = ownSecrets.toSorted((a, b) => b.length - a.length);
  for (const secret of longestFirst) text = text.replaceAll(secret, "[redacted]");
  for (const pattern of closely ? patterns().secrets : patterns().channels) {
    let [hidden, done] = ["", 0];
    pattern.lastIndex = 0;
    for (let match = pattern.exec(text); match; match = pattern.exec(text)) {
      const [start, end] = secretOf(text, match);
      if (end <= start) {
        // What is between a name and its value may hold the next name.
        const { strong, weak } = match.groups ?? {};
        pattern.lastIndex -= match[0].length - (strong ?? weak ?? match[0]).length;
        continue;
      }
      hidden += text.slice(done, start) + text.slice(start, end).replace(/[^\n]+/g, "[redacted]");
      pattern.lastIndex = done = end;
    }
    if (done > 0) text = hidden + text.slice(done);
  }
  return text;
}

/** Shows what cannot be seen as its escape, `\x1b` or `\u202e`. */
function visible(text: string): string {
  if (/^[ -~\t\n]*$/.test(text)) return text;
  // Made once each: millions of new strings take more memory than the text.
  const escapes = new Map<string, string>();
  const escape = (character: string) => {
    const hex = (character.codePointAt(0) ?? 0).toString(16);
    const short = hex.length > 2 ? `u${hex.padStart(4, "0")}` : `x${hex.padStart(2, "0")}`;
    const made = `\\${hex.length > 4 ? `u{${hex}}` : short}`;
    escapes.set(character, made);
    return made;
  };
  const hidden = /(?![\t\n])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{DI}]/gu;
  // In pieces: until a text is done, each character that is replaced costs 130 bytes of memory.
  return text.replace(/[^]{1,65536}/gu, (piece) =>
    piece.replace(hidden, (each) => escapes.get(each) ?? escape(each)),
  );
}

/** Makes text harmless: nothing invisible, no run of backticks that could close a fence. */
function neutralise(text: string): string {
  return visible(text).replace(/`(?=`)/g, "`\u200b");
}

const utf8 = new TextDecoder();
const encoder = new TextEncoder();

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}

/** Whole lines as text: UTF-8, U+FFFD for what is not, without NULs and the CR of a line end. */
function decoded(bytes: Uint8Array): string {
  const text = utf8.decode(bytes).replaceAll("\0", "");
  return text.replace(/(?<!\r)\r+(?![^\n])/g, "");
}

/**
 * Lines of the log, or any text, made harmless. In `text`, a character for a byte, lines are told
 * apart fast; only what is no jail's line about an address is decoded and looked at, together with
 * its neighbours: a command may have several lines.
 */
export function cleanText(source: string | Uint8Array, ownSecrets: readonly string[]): string {
  const { usualLines, jailLine } = patterns();
  const bytes = typeof source === "string" ? encoder.encode(source) : source;
  const text = latin1(bytes);
  // Where a short secret of our own is, as a jail's name may be, no line is trusted.
  const own = ownSecrets.some((secret) => secret.length <= 50 && text.includes(secret));
  const pieces: string[] = [];
  let [done, closely] = [0, 0];
  const flush = (start: number, end: number, isClose: boolean) => {
    if (start === end) return;
    const lines = decoded(bytes.subarray(start, end));
    pieces.push(text.slice(done, start), neutralise(redact(lines, ownSecrets, isClose)));
    done = end;
  };
  for (let at = 0; at < text.length;) {
    const usual = own ? at : endOf(usualLines, text, at);
    const next = usual > at ? usual : endOf(jailLine, text, at);
    if (next > at) {
      flush(closely, at, true);
      if (usual === at) flush(at, next, false);
      closely = at = next;
    } else at = text.indexOf("\n", at) + 1 || text.length;
  }
  flush(closely, text.length, true);
  return pieces.join("") + text.slice(done);
}

/** Not between the two halves of a surrogate pair, nor inside `&amp;`. */
function characterBoundary(text: string, at: number): number {
  const entity = /&[a-z]{0,3}$/.exec(text.slice(at - 4, at));
  if (entity) return at - entity[0].length;
  const code = text.charCodeAt(at - 1);
  return code >= 0xd800 && code <= 0xdbff ? at - 1 : at;
}

/** The lines of a text that ends in a line end. */
function linesOf(text: string): string[] {
  return text.split("\n").slice(0, -1);
}

function countLines(text: string): number {
  let lines = 0;
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) lines++;
  return lines;
}

/** Where the line begins that a place is in. */
function lineStart(text: string, at: number): number {
  return at === 0 ? 0 : text.lastIndexOf("\n", at - 1) + 1;
}

/**
 * Takes as many whole lines of a text that ends in a line end, from `at` on, as fit into `room`
 * UTF-16 units, at most `maxLines`; a line that is longer than a message is cut, and both ends of
 * the cut are marked. Lines that belong together (each but the first `continues`) are not parted if
 * they fit a message. `taken` characters are done with when it is sent, line ends too.
 */
export function cutText(
  text: string,
  at: number,
  room: number,
  maxLines = Infinity,
  continues: (at: number) => boolean = () => false,
) {
  const mark = at === 0 || text[at - 1] === "\n" ? "" : CUT_MARK;
  const space = room - mark.length;
  // A message ends without a line end. The line may have megabytes more, which are not looked at.
  const near = text.slice(at, at + space + 1);
  let length = near.lastIndexOf("\n") + 1;
  if (length === 0) {
    const next = characterBoundary(text, at + space - CUT_MARK.length);
    if (next <= at) throw new Error(`no room for a line: ${room}`);
    const body = mark + text.slice(at, next) + CUT_MARK;
    return { body, taken: next - at, partOfLine: true };
  }
  if (maxLines < Infinity) {
    length = linesOf(near).slice(0, maxLines).join("\n").length + 1;
  } else if (at + length < text.length && continues(at + length)) {
    let [record, next] = [lineStart(text, at + length - 1), at + length];
    while (record > at && continues(record)) record = lineStart(text, record - 1);
    const fits = () => next - 1 - record <= room;
    while (next < text.length && fits() && continues(next)) next = text.indexOf("\n", next) + 1;
    if (record > at && fits()) length = record - at;
  }
  return { body: mark + near.slice(0, length - 1), taken: length, partOfLine: false };
}

/** Words in lines of at most `width` characters; a longer word is a line of its own. */
function filled(words: readonly string[], width: number): string[] {
  const lines: string[] = [];
  for (const word of words) {
    const longer = `${lines.at(-1)} ${word}`;
    if (lines.length > 0 && longer.length <= width) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

/** As many words as `room` has place for, and how many more there are. */
function fitting(words: readonly string[], room: number, joint = ", ", last = " and"): string {
  let text = "";
  for (const [index, word] of words.entries()) {
    const more = (left: number) => (left > 0 ? `${last} ${left.toLocaleString("en")} more` : "");
    const next = index === 0 ? word : text + joint + word;
    const rest = more(words.length - index - 1);
    if (next.length + rest.length > room) return (text + more(words.length - index)).trim();
    text = next;
  }
  return text;
}

/** Slack reads `&`, `<` and `>` as its own signs, in fences too. */
function escapeSlack(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** Discord refuses some names: 1 to 80 characters, without `discord` and `clyde`. */
function discordName(host: string): string {
  const named = neutralise(`Fail2Ban · ${host}`.replace(/\s+/g, " "));
  const name = named.replace(/(?<=dis)(?=cord)|(?<=cly)(?=de)/gi, "-");
  return name.slice(0, characterBoundary(name, Math.min(name.length, 80))).trim();
}

// ── Core: grammar ───────────────────────────────────────────────────────────────────────────────
// Pure. Reads fail2ban's log, 0.9 to 1.1.1: each line belongs to a record, each record has a kind.
// Patterns are anchored at the start, because what follows may be an attacker's text.

export const KINDS = ["alert", "ban", "unban", "restore", "found", "life", "other"] as const;
type Kind = (typeof KINDS)[number];

/**
 * The first line of a record of each of these events, with the parts, all text, that the event's
 * row in `MESSAGES` names.
 */
type FirstLine<Event extends string, Parts extends string = never> = Event extends string
  ? Record<"date" | "time" | "level" | "message" | Parts, string> & {
      event: Event;
      kind: Kind;
      jail?: string | undefined;
    }
  : never;

/** Its `event` says which parts it has. An `id` is an address, a network or any other text. */
type LogRecord =
  | FirstLine<"ban" | "reban" | "repeal" | "restore", "jail" | "id">
  // `repealed`: set by whoever counts the unban, called by `LogContext` when it has read
  // `Jail 'sshd' stopped`: only this line shows that the unban was a part of the jail's stop.
  | (FirstLine<"unban", "jail" | "id"> & { repealed?: () => void })
  | FirstLine<"foundAgain" | "alreadyBanned", "jail" | "id">
  | (FirstLine<"found" | "attempt", "jail" | "id"> & { at: string | undefined })
  | (FirstLine<"increase", "jail" | "id"> & Record<"count" | "length", string | undefined>)
  | FirstLine<"flush" | "jailCreated" | "jailStarted" | "jailStopped" | "jailReloaded", "jail">
  | (FirstLine<"failed", "jail" | "doing" | "action"> & Record<"id" | "why", string | undefined>)
  | FirstLine<"command", "process" | "command">
  | (FirstLine<"output", "process"> & { error: string | undefined })
  | FirstLine<"ended", "process" | "end">
  | (FirstLine<"starting", "version"> & { crashed?: boolean })
  | FirstLine<"setting", "name" | "seconds">
  | FirstLine<"stopping" | "exiting" | "reloading" | "unchecked" | "unrestored" | "blind">
  | FirstLine<"foreign" | "other">;
type RecordOf<Event extends LogRecord["event"]> = Extract<LogRecord, { event: Event }>;

/** The host's wall clock as if it were UTC: the log has local times without a zone. */
function wallClock(now: number): number {
  return now - new Date(now).getTimezoneOffset() * MINUTE;
}

/** A wall-clock time, given as if it were UTC, as the log writes it. */
function stampOf(wallMs: number): string {
  return new Date(wallMs).toISOString().slice(0, 19).replace("T", " ");
}

/** The time of a stamp or of its first part, or NaN; without a date, all are of one day. */
function wallClockMs(stamp: string): number {
  const text = stamp.replace(/^ (?=\d)/, "1970-01-01T").replace(" ", "T");
  const ms = Date.parse(`${text.padEnd(19, "T00:00:00".slice(text.length - 10))}Z`);
  return Number.isFinite(ms) && new Date(ms).toISOString().startsWith(text) ? ms : Number.NaN;
}

/** A pattern in short lines: it has no line breaks, nor the spaces that a line begins with. */
function pattern(text: TemplateStringsArray, ...parts: readonly RegExp[]): RegExp {
  const sources = parts.map(({ source }) => source);
  return new RegExp(String.raw(text, ...sources).replace(/\n */g, ""));
}

/** What surrounds a message. Made when first used, as `MESSAGES` is: an idle run needs neither. */
const PREFIXES = lazily(() => {
  const stamp = /(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)[.,\d]{0,10}/;
  const level = pattern`(DEBUG|INFO|NOTICE?|WARNI(?:NG)?|ERROR|CRITI(?:CAL)?|MSG|TRACE(?:DEBUG)?|
    HEAVY(?:DEBUG)?|Level(?: \d{1,2})?|(?<=\[\d{1,10}\]: )\S+)`;
  // A failure behind its hour, for the digest. The grammar would say the same of it, too.
  const usualFound = pattern`:\d\d:\d\d,\d{3} fail2ban\.filter +\[\d+\]: INFO +
    \[([^\][\n]{1,200})\] Found ([\da-f.:]{3,39}) - [\d-]+ [\d:]+\n`;
  return {
    // What most lines are: one look instead of many. The grammar would say the same.
    usual: pattern`^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d),\d{3}[ ]
      fail2ban\.(?:filter|actions) +\[\d+\]: ([A-Z]+) +(\[([^\]]{1,200})\][ ]
      (?:Found ([\da-fA-F.:]+)(?: - ([\d-]+ [\d:]+))?|
      (Ban|Unban|Restore Ban|Repeal Ban) ([\da-fA-F.:]+)|([\da-fA-F.:]+) already banned))$`,
    // prettier-ignore
    usualVerbs: {
      Ban: "ban", Unban: "unban", "Restore Ban": "restore", "Repeal Ban": "repeal",
    } as Readonly<Record<string, string>>,
    usualFound: new RegExp(usualFound, "y"),
    // `2026-11-22 10:32:26,867 fail2ban.actions   [18191]: NOTICE  [sshd] Ban 203.0.113.7`; with
    // `-vv` to `-vvvv` (its own date, or milliseconds, and a thread), by 0.8 (no process) or in a
    // custom format. Between date and level may be fail2ban's name, but no other word.
    own: pattern`^ ?
      (?:\[?${stamp}|\+ {0,9}\d{1,12} |(?=[0-9A-F]{8,16} |fail2ban[\w.-]{0,40} *\[\d+\]: ))
      [^A-Za-z]{0,9}?(?:[0-9A-F]{8,16} {1,9})?(?:fail2ban[\w.-]{0,40})?[^A-Za-z]{0,60}${level}
      (?: {1,9}\| *[\w.]{1,15}-\d{1,3} *: [\w<>]{1,40} *\|)?[\])>]?:?(?: {1,9}[|-])? +(.*)$`,
    // What docker compose and kubectl write in front of it: the container's name.
    container:
      /^(?:(?:[\w.-]{1,100} {2,}|[\w.-]{0,60}fail2ban[\w.-]{0,60} )\| |\[pod\/\S{1,200}\] )/,
    // What others add: CRI, docker and journald a time; syslog (RFC 3164, 3339, 5424) also a host,
    // which may be missing, and the program's tag.
    wrapper: pattern`^(?:<\d{1,3}>(?:1 )?)?
      (?:(?:([A-Z][a-z]{2}) ([ \d]\d) (\d\d:\d\d:\d\d)[.\d]{0,10}|
      (?:[A-Z][a-z]{2} )?${stamp}(?:Z|[+-]\d\d:?\d\d| [A-Z]{3,5})?|\d{10}\.\d{6}|\[ *\d+\.\d+\])[ ]
      (?:std(?:out|err) [FP] |(?:\S{0,254}[^\s:] )?([^\s:[\]]{1,99})
      (?:(?:\[\d{1,10}\])?: | [\d-]{1,10} \S{1,32} - ))?)?`,
    afterTag: pattern`^()() *${level} +(.*)$`,
  };
});

const SERIOUS = /^(?:WARN|ERR|CRIT|Level [34]|#[34])/;

/**
 * What a message says, by row: the first that fits wins, its named groups are the record's parts.
 * The kind `other` is `alert` where the level is serious. The usual rows come first.
 */
const MESSAGES = lazily((): [event: LogRecord["event"], kind: Kind, message: RegExp][] => {
  // A jail ends at the first bracket, because what is behind it may be an attacker's text.
  const inJail = (text: RegExp) => pattern`^\[(?<jail>[^\]]{1,200})\] ${text}`;
  const ofRun = (text: RegExp) => pattern`^(?<process>[0-9a-f]+) -- ${text}`;
  const at = /(?: - (?<at>[\d-]+ [\d:]+))?$/;
  const bad = /, bad - [\d-]+ [\d:]+, \d+ # -> [\d.]+(?:, Ban)?$/;
  // An action failed at `doing`: ban, unban, reban, start, stop, flush bans.
  const failed = pattern`^Failed to (?:execute )?(?<doing>.{1,20}?)(?: in)?[ ]
    jail '(?<jail>.{1,200}?)' action '(?<action>.{0,200}?)'
    (?:(?: info '(?:\w*\(?\{'ip': '(?<id>[^']{1,100})')?.*')?: (?<why>.*))?`;
  const length = /(?: \((?<count>\d{1,9}) # (?<length>[\w :,.]{1,60}) -> [\w :,.-]{1,60}\))?$/;
  return [
    // The observer repeats what the filter found, for an id that was banned before.
    ["foundAgain", "found", inJail(pattern`Found (?<id>.*)${bad}`)],
    // `at`: the time of the failure in the log that is watched.
    ["found", "found", inJail(pattern`Found (?<id>.*?)${at}`)],
    ["ban", "ban", inJail(/Ban (?<id>.+)/)],
    // That a stop lifts a ban is said since 1.1.1 only; before, `LogContext` makes these repeals.
    ["unban", "unban", inJail(/Unban (?<id>.+)/)],
    ["repeal", "restore", inJail(/Repeal Ban (?<id>.+)/)],
    // Made again after a start.
    ["restore", "restore", inJail(/Restore Ban (?<id>.+)/)],
    // The ban number `count` of this id, and its `length`: `24s`, `1 day, 0:00:00`, `permanent`.
    ["increase", "ban", inJail(pattern`Increase Ban (?<id>.*?)${length}`)],
    ["flush", "restore", inJail(/Flush ticket\(s\) with /)],
    // A failure that `fail2ban-client set JAIL attempt` made.
    ["attempt", "found", inJail(pattern`Attempt (?<id>.*?)${at}`)],
    // Made again: a check has shown that the firewall lost it.
    ["reban", "ban", inJail(/Reban (?<id>.*?)(?:, action '[^']*')?$/)],
    ["alreadyBanned", "found", inJail(/(?<id>.*) already banned$/)],
    ["starting", "life", /^Starting Fail2ban v(?<version>\S+)/],
    ["starting", "life", /^Changed logging target to .* for Fail2ban v(?<version>0\.\S+)$/],
    ["stopping", "life", /^(?:Shutdown in progress|Stopping all jails)/],
    ["exiting", "life", /^Exiting Fail2ban/],
    ["reloading", "life", /^Reload (?:all jails|finished)/],
    ["reloading", "life", /^Reload jail (?:u(?=['"]))?(['"]?)(?<jail>.*)\1$/],
    ["jailStarted", "life", /^Jail u?(['"])(?<jail>.*)\1 started/],
    ["jailStopped", "life", /^Jail u?(['"])(?<jail>.*)\1 stopped/],
    ["jailReloaded", "life", /^Jail u?(['"])(?<jail>.*)\1 reloaded/],
    ["failed", "alert", failed],
    // The firewall's rules are gone; they may be restored.
    ["unchecked", "alert", /^Invariant check failed/],
    ["unrestored", "alert", /^Unable to restore environment/],
    // A jail no longer sees its log.
    ["blind", "alert", /^Too many errors.*going idle$|^Log .* seems to be down|^Unable to open /],
    // Of a failed action; `process` sets it apart from others that run at the same time.
    ["command", "alert", ofRun(/exec: (?<command>.*)/)],
    ["output", "alert", ofRun(/(?:stdout|stderr: (?<error>.*))/)],
    ["ended", "alert", ofRun(/(?<end>returned(?: \d+)?|timed out after \d+ seconds|killed .*)/)],
    ["other", "other", /^\[(?<jail>[^\]]+)\] /],
    ["jailCreated", "other", /^Creating new jail u?(['"])(?<jail>.*?)\1/],
    // Of the jail that was created or reloaded last.
    ["setting", "other", /^(?:Set )?(?<name>findtime|banTime)(?:: | = )(?<seconds>-?\d+)/],
    ["other", "other", /^(?:Jail|Jail name) u?(['"])(?<jail>.*?)\1/],
    // 0.9 names no process: it repeats the whole command, which may have many lines.
    ["output", "other", /^(?<process>[^[][^]*?) -- (?:stdout|stderr: b?(?<error>.*))/],
    ["ended", "other", /^(?<process>[^[][^]*?) -- (?<end>returned \d+|timed out .*|killed .*)/],
    ["other", "other", /^/],
  ];
});

/** Reads the first line of a record; absent for a continuation line, and for what is not known. */
export function readRecord(line: string): LogRecord | undefined {
  const { usual, usualVerbs, own, afterTag } = PREFIXES();
  const match = usual.exec(line);
  if (match) {
    // As an object: to take an array apart costs more than the match.
    const { 1: date, 2: time, 3: level, 4: message, 5: jail } = match;
    const { 6: found, 7: at, 8: verb, 9: other, 10: again } = match;
    const did = verb && usualVerbs[verb];
    const event = did || (found ? "found" : "alreadyBanned");
    const kind = did === "repeal" ? "restore" : did || "found";
    const id = found ?? other ?? again;
    return { date, time, level, message, kind, event, jail, id, at } as LogRecord;
  }
  const plain = own.exec(line);
  if (plain) return classify(plain[1], plain[2], plain[3], plain[4]);
  const { text, date, time, tag } = unwrap(line);
  if (text === line) return undefined;
  if (tag !== undefined && !tag.includes("fail2ban"))
    return { date, time, level: "", message: `${tag}: ${text}`, kind: "other", event: "foreign" };
  const inner = own.exec(text) ?? (tag === undefined ? null : afterTag.exec(text));
  if (inner) return classify(inner[1] || date, inner[2] || time, inner[3], inner[4]);
  // The journal keeps no level beside the text: there, only what the grammar names begins a record.
  const record = tag === undefined ? undefined : classify(date, time, "", text);
  return record?.event === "other" && record.jail === undefined ? undefined : record;
}

/**
 * Takes off what others have put around a line: a container's name, and a time with the program's
 * `tag`, which is the container where that is not fail2ban's. RFC 3164 has a date like `11-22`.
 */
function unwrap(line: string) {
  const { own, container, wrapper } = PREFIXES();
  const [service = ""] = container.exec(line) ?? [];
  let bare = line.slice(service.length);
  let logged: string | undefined;
  if (line.startsWith('{"log":"')) {
    try {
      const docker = JSON.parse(line) as Record<string, unknown>;
      bare = `${String(docker["time"])} `;
      logged = neutralise(String(docker["log"]).trimEnd());
    } catch {
      // A line that was cut, or damaged.
    }
  }
  const [around = "", month = "", day = "", clock = "", whole = "", later, program] =
    (own.test(bare) ? null : wrapper.exec(bare)) ?? [];
  const number = `${1 + "JanFebMarAprMayJunJulAugSepOctNovDec".indexOf(month) / 3}`;
  const date = month ? `${number.padStart(2, "0")}-${day.replace(" ", "0")}` : whole;
  const isForeign = service !== "" && !service.includes("fail2ban");
  const tag = isForeign ? service.replace(/[ |]+$/, "") : program;
  return { text: logged ?? bare.slice(around.length), date, time: later ?? clock, tag };
}

function classify(date = "", time = "", level = "", message = ""): LogRecord {
  for (const [event, ofRow, text] of MESSAGES()) {
    const match = text.exec(message);
    if (!match) continue;
    const kind = ofRow === "other" && SERIOUS.test(level) ? "alert" : ofRow;
    // Not spread: that takes as long as the patterns.
    const rest = { date, time, level, message, kind, event };
    return Object.assign(match.groups ?? {}, rest) as LogRecord;
  }
  throw new Error("the grammar's last row fits everything");
}

/** Reads a log line by line, and knows what the lines before say about the next ones. */
class LogContext {
  record: LogRecord | undefined;
  /** The server is on its way down: what it unbans now it will ban again. */
  stopping = false;
  /** The server was seen at work, and did not say since that it stops. */
  running = false;
  /** By jail, the unbans that are its last lines, and seconds old: they may be of its stop. */
  readonly unbans = new Map<string, RecordOf<"unban">[]>();
  /** The last day that a line may be of: gives dates their year; without it they have none. */
  readonly lastDay: (() => string) | undefined;

  constructor(before: Partial<LogContext> = {}) {
    const unbans = [...(before.unbans ?? [])].map(([jail, all]) => [jail, [...all]] as const);
    Object.assign(this, before, { unbans: new Map(unbans) });
  }

  /**
   * The record that begins with this line; absent where it continues the one above. The unbans
   * of a stop become repeals: after a shutdown began, or when their jail is said to be stopped.
   */
  read(line: string): LogRecord | undefined {
    const next = readRecord(line);
    if (!next) return undefined;
    const { event, kind, jail, date, time } = next;
    // Nearly all have the day of the one above.
    if (date !== this.record?.date || time >= "24") next.date = this.#dayOf(next);
    if (event === "stopping") this.stopping = true;
    // A jail that starts ends the stop too: `reload --restart` stops all jails, not the server.
    if (event === "starting" || event === "jailStarted" || event === "exiting")
      this.stopping = false;
    if (next.event === "starting") next.crashed = this.running;
    // What a server says before it has started, or of its own trouble, does not count.
    if (this.stopping || event === "exiting") this.running = false;
    else if (kind !== "other" && kind !== "alert") this.running = true;
    if (next.event === "unban" && this.stopping) this.#repeal(next);
    if (jail && event !== "flush") this.#noteJail(next, jail);
    return (this.record = next);
  }

  /** A record's date, with the year that syslog leaves out; empty where there is no such time. */
  #dayOf({ date, time }: LogRecord): string {
    const last = (date.length === 5 && this.lastDay?.()) || "";
    const year = Number(last.slice(0, 4));
    const whole = [`${year}-${date}`, `${year - 1}-${date}`].find((each) => each <= last) ?? date;
    return Number.isNaN(wallClockMs(`${whole} ${time}`)) ? "" : whole;
  }

  #noteJail(next: LogRecord, jail: string): void {
    const isUnban = next.event === "unban";
    const { unbans } = this;
    // Nearly every line ends here.
    if (!isUnban && !unbans.has(jail)) return;
    const waiting = unbans.get(jail) ?? [];
    const msOf = ({ date, time }: LogRecord) => wallClockMs(`${date} ${time}`);
    // They may be of one stop; by the time of day alone, where they have no date.
    const isNear = (unban: LogRecord) => Math.abs(msOf(unban) - msOf(next)) <= 10 * SECOND;
    if (isUnban) {
      while (waiting[0] && !isNear(waiting[0])) waiting.shift();
      waiting.push(next);
      return void unbans.set(jail, waiting);
    }
    if (next.event === "jailStopped" && !this.stopping)
      for (const unban of waiting.filter(isNear)) this.#repeal(unban);
    unbans.delete(jail);
  }

  #repeal(unban: RecordOf<"unban">): void {
    Object.assign(unban, { event: "repeal", kind: "restore" });
    unban.repealed?.();
  }

  /** The record that each line belongs to, and the context behind them; this one stays. */
  readAll(lines: readonly string[]) {
    const after = new LogContext(this);
    return { records: lines.map((line) => after.read(line) ?? after.record), after };
  }
}

// ── Core: views ─────────────────────────────────────────────────────────────────────────────────
// Pure. Which lines a person wants, by kind and jail, and how they look: raw, compact, in color.

/** Says so where most of these lines are not fail2ban's, or in an unknown format. */
function foreignText(lines: readonly string[]): string {
  let [known, foreign] = [0, 0];
  /** Lines since the last record, without those that are indented as a traceback's are. */
  let below = Infinity;
  for (const line of lines) {
    const event = readRecord(line)?.event;
    if (event && event !== "foreign") [known, below] = [known + 1, 0];
    else {
      if (event) below = Infinity;
      // A command or an exception has up to 10 lines more.
      if (/^\S/.test(line) && ++below > 10) foreign++;
    }
  }
  if (foreign < 3 || foreign <= known) return "";
  return "these lines are not fail2ban's, or in an unknown format";
}

/** Which lines a person wants, and how: an empty set is all; lines of no jail always belong. */
type View = Settings["view"];

/** Whether the view is the log as it is. */
function showsAll({ format, only, jails, color }: View): boolean {
  return format === "raw" && only.size === 0 && jails.size === 0 && !color;
}

function isShown(record: LogRecord | undefined, { only, jails }: View): boolean {
  if (!record) return true;
  const { kind, jail } = record;
  return (only.size === 0 || only.has(kind)) && (jails.size === 0 || !jail || jails.has(jail));
}

/**
 * Shows the log as the view wants it and the service writes it. `left`: how many lines of the log
 * are left when all before a place was sent; `continues`: whether the line that begins there
 * belongs to the one above it.
 */
function showLines(text: string, view: View, before: LogContext, encode: (text: string) => string) {
  if (showsAll(view) && encode(text) === text) {
    const continues = (at: number) => {
      // As nearly every line of a log begins; a pattern takes longer to say so.
      const isDated = text.charCodeAt(at + 4) === 0x2d && text.charCodeAt(at + 13) === 0x3a;
      return !isDated && readRecord(text.slice(at, text.indexOf("\n", at))) === undefined;
    };
    return { text, left: (at: number) => countLines(text.slice(at)), continues };
  }
  const lines = linesOf(text);
  // Discord shows these in an `ansi` fence: bold 1, colours 30 to 37.
  // prettier-ignore
  const colors: Record<Kind, string> = {
    alert: "1;31", ban: "31", unban: "32", restore: "36", found: "33", life: "34", other: "",
  };
  const { records } = before.readAll(lines);
  let [shown, day] = ["", before.record?.date ?? ""];
  const starts = new Map<number, { left: number; continues: boolean }>();
  for (const [index, line] of lines.entries()) {
    const left = lines.length - index;
    const record = records[index];
    if (!isShown(record, view)) continue;
    const continues = record === (index > 0 ? records[index - 1] : before.record);
    const first = view.format === "compact" && !continues ? record : undefined;
    // `10:32:26 sshd Ban 203.0.113.7`; what is serious keeps its level.
    const words = first?.message.replace(/^\[(.{1,200}?)\] /, "$1 ");
    const level = first && SERIOUS.test(first.level) ? first.level : "";
    const plain = first ? joined([first.time, level, words], " ") : line;
    // So much fits a message of any service; a cut must not part a colour from its end.
    const color = view.color && plain.length <= 1_500 && record && colors[record.kind];
    const painted = color ? `\x1b[${color}m${plain}\x1b[0m` : plain;
    const isNewDay = first !== undefined && first.date !== "" && first.date !== day;
    if (isNewDay) {
      starts.set(shown.length, { left, continues: false });
      shown += `${(day = first.date)}\n`;
    }
    starts.set(shown.length, { left, continues: continues || isNewDay });
    shown += `${encode(painted)}\n`;
  }
  return {
    text: shown,
    left: (at: number) => starts.get(lineStart(shown, at))?.left ?? 0,
    continues: (at: number) => starts.get(at)?.continues === true,
  };
}

// ── Core: counts ────────────────────────────────────────────────────────────────────────────────
// Pure. What happened, in numbers: for floods, for what is only counted, and for the digest.

interface Busy {
  found: number;
  banned: number;
}

/** Beyond this many ids the rare ones are forgotten. */
const IDS_LIMIT = 50_000;

/** A string of its own: a slice would keep the whole block in memory that it was cut from. */
function ownCopy(text: string): string {
  return ` ${text}`.replace(" ", "");
}

function busiestFirst(a: Busy, b: Busy): number {
  return b.found + b.banned - a.found - a.banned;
}

/** Adds up the records that its `context` reads, in bounded memory. */
class Counts {
  /** By name; what belongs to no jail has none. */
  readonly jails = new Map<string, Busy & { kinds: Record<Kind, number>; ids: Set<string> }>();
  readonly ids = new Map<string, Busy & { id: string }>();
  /** Ids, in the order they were banned. */
  readonly banned = new Set<string>();
  failedActions = 0;
  /** The first and the last record that has a time. */
  from: LogRecord | undefined;
  to: LogRecord | undefined;
  /** There were too many to remember them all: the numbers are then the least they may be. */
  readonly atLeast = { seenAddresses: false, bannedAddresses: false };
  /** Parts of events that are counted, and all of `life` but starts. */
  // prettier-ignore
  readonly #uncounted = new Set<LogRecord["event"]>([
    "foundAgain", "increase", "command", "output", "ended",
    "stopping", "exiting", "reloading", "jailStopped", "jailReloaded",
  ]);
  readonly view: View;
  readonly ownSecrets: readonly string[];
  readonly context: LogContext;

  constructor(view: View, ownSecrets: readonly string[] = []) {
    [this.view, this.ownSecrets] = [view, ownSecrets];
    this.context = new LogContext({ lastDay: view.lastDay });
  }

  add(record: LogRecord): void {
    const { event, kind, jail: name = "" } = record;
    if (record.time) this.to = record;
    this.from ??= this.to;
    if (event === "found") return this.addFound(name, record.id);
    if (this.#uncounted.has(event)) return;
    const jail = this.#jail(name);
    jail.kinds[kind]++;
    if (record.event === "unban")
      record.repealed = () => [jail.kinds.unban--, jail.kinds.restore++];
    if (event === "failed") this.failedActions++;
    if (event !== "ban") return;
    const count = this.#id(record.id);
    jail.banned++;
    count.banned++;
    const isFull = this.banned.size >= IDS_LIMIT && !this.banned.has(count.id);
    this.atLeast.bannedAddresses ||= isFull;
    if (isFull) return;
    jail.ids.add(count.id);
    this.banned.add(count.id);
  }

  addFound(name: string, id: string): void {
    const jail = this.#jail(name);
    jail.kinds.found++;
    jail.found++;
    this.#id(id).found++;
  }

  /** The ids that were found and banned most. */
  busiest(most = Infinity) {
    return [...this.ids.values()].sort(busiestFirst).slice(0, most);
  }

  #jail(given: string) {
    const known = this.jails.get(given);
    if (known) return known;
    const name = this.jails.size < 20_000 ? ownCopy(given) : "(other jails)";
    return this.jails.getOrInsertComputed(name, () => {
      const kinds = Object.fromEntries(KINDS.map((kind) => [kind, 0])) as Record<Kind, number>;
      return { found: 0, banned: 0, kinds, ids: new Set<string>() };
    });
  }

  /** An id may be any text of any length; a secret is taken out before it is cut. */
  #id(text: string) {
    const hide = () => redact(text, this.ownSecrets, /[\s"'`\\]/.test(text));
    const id = text.length <= 200 ? text : shortened(hide(), 200);
    const known = this.ids.get(id);
    if (known) return known;
    const isFull = this.ids.size >= IDS_LIMIT;
    this.atLeast.seenAddresses ||= isFull;
    // Keeps the most frequent.
    for (let rare = 1; isFull && this.ids.size > IDS_LIMIT / 2; rare *= 2) {
      for (const [each, { found, banned }] of this.ids)
        if (found + banned <= rare) this.ids.delete(each);
    }
    return this.ids.getOrInsertComputed(ownCopy(id), (own) => ({ id: own, found: 0, banned: 0 }));
  }
}

// ── Core: events ────────────────────────────────────────────────────────────────────────────────
// Pure, in two steps: records become a batch of plain data, and that becomes words, with what
// others know of its bans. Log text is in inline code, addresses that parse and plain names
// excepted.

/** How a service writes what it shows. */
interface Markup {
  bold(text: string): string;
  /** Log text, cut at so many characters as they are sent: nothing in it has a meaning. */
  code(text: string, limit: number): string;
  link(url: string, label: string): string;
  small(text: string): string;
}

/** A backtick cannot be escaped in inline code: another character replaces it. */
const inCode = (text: string) => text.replaceAll("\u200b", "").replaceAll("`", "ˋ") || " ";

// Step one: what happened.

/** What can happen, and what is said of it. */
type Fact =
  | { event: "unban" | "restore" | "repeal" | "jailStarted" | "jailStopped" | "jailReloaded" }
  | {
      event: "ban";
      /** `2026-11-22 10:32:26`, as far as the log has it. */
      time: string;
      /** `again`: the firewall had lost it; `longer`: only its new length was logged. */
      form: "new" | "again" | "longer";
      /** Failures that the log has of it, and the number of this ban; 0 when it is not known. */
      failures: number;
      count: number;
      /** -1 is permanent. */
      seconds: number | undefined;
      failed: Of<"failed">[];
    }
  /** A stop or start: `version` comes with the start, what the jails did on the way is `parts`. */
  | { event: "server"; did: ServerDid; version: string; parts: Record<string, number> }
  /** Banned a minute ago or more, and seen again. */
  | { event: "through"; attempts: number }
  /** `why` is empty where nothing proves it; `blocked` unless a check of the firewall failed. */
  | { event: "failed"; id: string; doing: string; action: string; why: string; blocked: boolean }
  /** `why` is what was raised, or how the command of this `process` ended. */
  | { event: "alert"; text: string; why: string; process?: string };
type ServerDid = "stopped" | "restarted" | "started" | "started after a crash";
/** `place` is its line's number; a jail or id that is missing is empty. */
type Happening = Fact & { place: number; shown: boolean; jail: string; id: string };
type Of<Event> = Extract<Happening, { event: Event }>;

/** Its settings in seconds; when it began to run actions last, for whom, and in which line. */
type SeenJail = { findtime: number; banTime?: number; at: number; id: string; place: number };
/** Failures since the last ban, that ban, and what this batch has of it. */
type SeenId = { failures: number[]; bannedAt: number; ban?: Of<"ban">; through?: Of<"through"> };

/** Whether a command has this id, or jail (also as its chain or set), as a word of its own. */
function mentions(command: string, word: string): boolean {
  if (word === "" || !command.includes(word)) return false;
  // Not a part of a longer address.
  const colon = word.includes(":") ? ":" : "";
  const chain = "(?:f2b-|fail2ban-|addr6?-set-)?";
  const alone = `(?<![\\w.${colon}-])${chain}${RegExp.escape(word)}(?![\\w${colon}-]|\\.\\w)`;
  return new RegExp(alone).test(command);
}

/** What happened in some lines, record by record. What is not shown still explains what is. */
export class Batch {
  /** Lines whose events need to know what happened before. */
  static readonly earlierMatters = /\] Ban | already banned$/m;
  /** In the order of their lines, once it is finished. */
  happenings: Happening[] = [];
  /** What is only counted. */
  found = 0;
  other = 0;
  /** The first and the last record with a time. */
  from: LogRecord | undefined;
  to: LogRecord | undefined;
  /** What it says about the lines behind it; times are in ms. */
  seen = {
    context: new LogContext(),
    lines: 0,
    jails: new Map<string, SeenJail>(),
    /** By jail and id. */
    ids: new Map<string, SeenId>(),
  };
  readonly view: View;
  readonly #before: ReadonlyMap<string, SeenId>;
  /** It is read when the last line `below` it is known. */
  #record: LogRecord | undefined;
  #below: string[] = [];
  /** Whether it is shown, and the last time that was looked at. */
  #shown = false;
  #clock = { text: "", ms: 0 };
  /** The jail that settings are said of. */
  #created: object = {};
  /** Commands that failed, until it is known for which action. */
  #commands: Of<"alert">[] = [];
  /** Alerts that the firewall's rules are gone, with the command that found it: as long. */
  #checks: { alert: Of<"alert">; command: Of<"alert"> }[] = [];
  /** The last line of a ban, an unban or a failed action. */
  #lastPlace = -1;
  #server: Of<"server"> | undefined;

  /** `before`: what the lines before these say, `seen` of their batch; it is used up. */
  constructor(view: View, before?: Batch["seen"]) {
    this.view = view;
    this.#before = before?.ids ?? this.seen.ids;
    const context = new LogContext(before?.context ?? { lastDay: view.lastDay });
    this.seen = { ...this.seen, ...before, context, ids: new Map() };
    // That it stops was sent; what it does on its way down is one event.
    if (context.stopping)
      this.#server = this.#add({ event: "server", did: "stopped", version: "", parts: {} });
  }

  read(lines: readonly string[]): this {
    const { context } = this.seen;
    for (const line of lines) {
      const record = context.read(line);
      if (record) {
        this.#readRecord();
        this.#record = record;
        // Nearly every record is one line.
        if (this.#below.length > 0) this.#below = [];
        if (record.time) this.to = record;
        this.from ??= this.to;
      } else if (this.#record) this.#below.push(unwrap(line).text);
      else if (!context.record) this.other++;
    }
    return this;
  }

  finish(): this {
    this.#readRecord();
    this.happenings = this.happenings.filter(({ shown }) => shown);
    return this;
  }

  /** Removes bans that do not work and were sent within the hour: `warned`, by fingerprint. */
  removeRepeats(warned: Readonly<Record<string, number>>, now: number): Record<string, number> {
    const recent = Object.entries(warned).filter(([, at]) => at <= now && now - at < HOUR);
    // More are not remembered.
    const known = Object.fromEntries(recent.slice(-500));
    this.happenings = this.happenings.filter(({ event, jail, id }) => {
      const key = event === "through" ? fingerprint(`${jail}\n${id}`).slice(0, 16) : "";
      if (key in known) return false;
      if (key) known[key] = now;
      return true;
    });
    return known;
  }

  /** Most lines have the time of the one above. */
  #ms({ date, time }: LogRecord, text = `${date} ${time}`): number {
    if (text !== this.#clock.text) this.#clock = { text, ms: wallClockMs(text) };
    return this.#clock.ms;
  }

  /** A fact of the record at hand, or of another id of its jail. */
  #add<Each extends Fact>(fact: Each): Of<Each["event"]> {
    const record: { jail?: string | undefined; id?: string | undefined } = this.#record ?? {};
    const [jail, id] = [ownCopy(record.jail ?? ""), ownCopy(record.id ?? "")];
    this.happenings.push({ shown: this.#shown, jail, id, place: this.seen.lines, ...fact });
    return this.happenings.at(-1) as Of<Each["event"]>;
  }

  #jailOf(name: string) {
    const { jails } = this.seen;
    // fail2ban's own default, where the log does not name the jail's.
    const fresh = { findtime: 600, at: 0, id: "", place: -1 };
    return jails.get(name) ?? jails.getOrInsert(ownCopy(name), fresh);
  }

  #idOf({ jail, id }: { jail: string; id: string }) {
    const key = `${jail}\n${id}`;
    const known = this.seen.ids.get(key);
    if (known) return known;
    const { failures = [], bannedAt = Number.NaN } = this.#before.get(key) ?? {};
    return this.seen.ids.getOrInsert(key, { failures, bannedAt });
  }

  #readRecord(): void {
    const record = this.#record;
    if (!record) return;
    const { event, kind, jail, message } = record;
    this.seen.lines++;
    this.#shown = isShown(record, this.view);
    if (jail && kind !== "found" && kind !== "other" && kind !== "alert")
      this.#jailOf(jail).at = this.#ms(record);
    if (event === "foundAgain" || event === "exiting") return;
    if (event === "increase") {
      const known = { count: Number(record.count ?? 0), seconds: secondsIn(record.length) };
      return void Object.assign(this.#banOf(record), known);
    }
    if (event === "failed") return this.#readFailed(record);
    if (event === "unchecked" || event === "unrestored") {
      const alert = this.#add({ event: "alert", text: message, why: "" });
      const command = this.#commands.at(-1) ?? this.#checks.at(-1)?.command ?? alert;
      return void this.#checks.push({ alert, command });
    }
    if ("process" in record) return this.#readCommand(record);
    if (event === "found" || event === "attempt") {
      const { failures } = this.#idOf(record);
      // No jail's maxretry is near this.
      if (failures.push(this.#ms(record, record.at)) >= 1_000) failures.splice(0, 500);
    } else if (event === "alreadyBanned") this.#readSeenAgain(record);
    else if ("id" in record) return this.#readTicket(record);
    else if (event === "setting")
      Object.assign(this.#created, { [record.name]: Number(record.seconds) });
    else if (event === "jailCreated" || event === "reloading")
      this.#created = this.#jailOf(jail ?? "");
    if (!this.#shown) return;
    if (event === "starting" || event === "stopping") return this.#readServer(record);
    if (event === "jailStarted" || event === "jailStopped" || event === "jailReloaded") {
      if (this.#isPartOfServer(event)) return;
      // Jails that come and go later are no part of the start.
      if (this.#server?.did !== "stopped") this.#server = undefined;
      this.#add({ event });
    } else if (kind === "alert") this.#readAlert(record);
    else if (kind === "found") this.found++;
    else this.other++;
  }

  /**
   * A failure among many, and an alert where the ban does not work. fail2ban warns from a minute
   * after the ban on, by the failure's time, and 0.9 never; until then its queue says it of what
   * came before the ban worked.
   */
  #readSeenAgain(record: RecordOf<"alreadyBanned">): void {
    const known = this.#idOf(record);
    const passed = this.#ms(record) - known.bannedAt;
    if (Number.isNaN(passed) ? !record.level.startsWith("WARN") : passed < MINUTE) return;
    known.through ??= this.#add({ event: "through", attempts: 0 });
    known.through.attempts++;
    known.through.shown = isShown({ ...record, kind: "alert" }, this.view);
  }

  #readAlert({ date, time, level, message }: LogRecord): void {
    const below = this.#below;
    // It may be the command that 0.9 repeats, of many lines.
    const said = classify(date, time, level, [message, ...below].join("\n"));
    if ("process" in said) return this.#readCommand(said);
    // The exception is behind the traceback's indented lines.
    const why = below.findLast((line, at) => /^\S/.test(line) && /^\s/.test(below[at - 1] ?? ""));
    const text = `${level} ${message.replace(/^\[[^\]]{1,200}\] /, "")}`;
    this.#add({ event: "alert", text, why: why ?? "" });
  }

  /** A jail bans or unbans an id, and runs its actions: it does one thing after the other. */
  #readTicket(record: RecordOf<"ban" | "reban" | "unban" | "repeal" | "restore">): void {
    const { event, jail, id } = record;
    const known = this.#idOf(record);
    const ofJail = this.#jailOf(jail);
    this.#lastPlace = this.seen.lines;
    Object.assign(ofJail, { id: ownCopy(id), place: this.#lastPlace });
    if (event === "ban" || event === "reban") {
      const since = (known.failures.at(-1) ?? 0) - ofJail.findtime * SECOND;
      const failures = known.failures.filter((at) => at >= since).length;
      const ban = this.#banOf(record);
      ban.seconds ??= ofJail.banTime;
      Object.assign(ban, { form: event === "ban" ? "new" : "again", failures });
      return void Object.assign(known, { failures: [], bannedAt: this.#ms(record) });
    }
    // What is said of this id's ban from now on is of another one.
    delete known.ban;
    known.bannedAt = event === "restore" ? this.#ms(record) : Number.NaN;
    if (this.#isPartOfServer(event)) return;
    const unban = this.#add({ event });
    const { view } = this;
    if (record.event !== "unban") return;
    // A stop of its jail, which is said behind it, may have lifted it.
    record.repealed = () => Object.assign(unban, { event: "repeal", shown: isShown(record, view) });
  }

  /** A ban is logged once, and its length once: by the observer, which may be faster. */
  #banOf(record: RecordOf<"ban" | "reban" | "increase">): Of<"ban"> {
    const known = this.#idOf(record);
    if (known.ban && (known.ban.form === "longer") !== (record.event === "increase"))
      return known.ban;
    const time = `${record.date} ${record.time}`.trim();
    const unknown = { failures: 0, count: 0, seconds: undefined, failed: [] };
    return (known.ban = this.#add({ event: "ban", time, form: "longer", ...unknown }));
  }

  /** A stop and the start behind it are one event; a start without a stop follows a crash. */
  #readServer(record: RecordOf<"starting" | "stopping">): void {
    const down = this.#server?.did === "stopped" ? this.#server : undefined;
    this.#server = down ?? this.#add({ event: "server", did: "stopped", version: "", parts: {} });
    if (record.event === "stopping") return;
    const start = record.crashed ? "started after a crash" : "started";
    const { version } = record;
    Object.assign(this.#server, { did: down ? "restarted" : start, version, shown: true });
  }

  /** Whether it is a part of a stop or start of the server: then it has no line of its own. */
  #isPartOfServer(did: string): boolean {
    const server = this.#server;
    const isDown = server?.did === "stopped";
    const parts = isDown ? ["jailStopped", "repeal", "jailStarted"] : ["jailStarted", "restore"];
    if (!server || !this.#shown || !parts.includes(did)) return false;
    server.parts[did] = (server.parts[did] ?? 0) + 1;
    server.shown = true;
    if (isDown && did === "jailStarted") server.did = "restarted";
    return true;
  }

  #readCommand(record: RecordOf<"command" | "output" | "ended">): void {
    const process = record.process.slice(0, 2_000);
    const isNew = record.event === "command";
    let ran = isNew ? undefined : this.#commands.findLast((each) => each.process === process);
    // 0.9 names no process: it repeats the command.
    if (!ran && (isNew || !/^[\da-f]+$/.test(process))) {
      const lines = isNew ? [record.command, ...this.#below] : [process];
      const text = lines.join("\n").slice(0, 2_000);
      this.#commands.push((ran = this.#add({ event: "alert", text, why: "", process })));
    }
    if (!ran || record.event === "command") return;
    const { why } = ran;
    // Python's `'text'`.
    if (record.event === "output") ran.why = record.error?.replace(/^(["'])(.*)\1$/, "$2") || why;
    else if (!why.includes("timed out")) ran.why += why ? ` (${record.end})` : record.end;
  }

  /**
   * Joins a failed action with its ban, with its command and with the check that says that the ban
   * was never made. Jails work side by side, and their lines do not say whose they are:
   * 1. What was before the jail's last ban or unban of this id belongs to others.
   * 2. Its commands name the id, and the jail if several do; else the jail; else, if no other jail
   *    can have run one, they are the only ones. If they may be different ones, none is its.
   * 3. The command of its check names the jail; or no jail, and nothing came between.
   * 4. Of a ban, its check is between two tries of its command, or has ended the only one.
   */
  #readFailed(record: RecordOf<"failed">): void {
    const { jail, doing, action, why: said = "" } = record;
    const last = this.#jailOf(jail);
    // Not every action says whom it failed for: a jail does one thing after the other.
    const id = record.id ?? (doing.endsWith("ban") ? last.id : "");
    // 1. More than 50 are not looked through.
    const since = last.id === id ? last.place : -1;
    [this.#commands, this.#checks] = [this.#commands.slice(-50), this.#checks.slice(-50)];
    const checks = this.#checks.filter(({ command }) => command.place > since);
    const looking = new Set(checks.map(({ command }) => command));
    const commands = this.#commands.filter((each) => each.place > since && !looking.has(each));
    // 2. An action's command may run for a minute, and is tried twice.
    const busySince = this.#ms(record) - 2 * MINUTE;
    const isAlone = [...this.seen.jails].every(([name, { at }]) => name === jail || at < busySince);
    const ofJail = commands.filter(({ text }) => mentions(text, jail));
    const ofId = commands.filter(({ text }) => mentions(text, id));
    const ofBoth = ofId.filter((each) => ofJail.includes(each));
    const choices = [ofId, ofBoth, ofJail, isAlone ? commands : []];
    const tries = choices.find((some) => new Set(some.map(({ text }) => text)).size === 1) ?? [];
    const check = checks.findLast(({ alert: { place, text }, command }) => {
      // 3.
      const isNear = place >= this.#lastPlace && !/\b(?:f2b|fail2ban)-\w/.test(command.text);
      if (!isNear && !mentions(command.text, jail)) return false;
      // 4. Where the rules could not be restored, nothing is tried a second time.
      if (/^Error (?:stopping|starting) action\b/.test(said)) return true;
      if (text.startsWith("Unable")) return tries.length < 2;
      return new Set(tries.map((each) => each.place > place)).size === 2;
    });
    // A Python action says itself what went wrong.
    const ran = said.startsWith("Error ") ? tries.at(-1) : undefined;
    // What is said of this action needs no line of its own.
    const isSaid = ({ text }: Of<"alert">) => text === ran?.text || text === check?.command.text;
    for (const command of this.#commands) command.shown &&= !isSaid(command);
    for (const { alert, command } of this.#checks) alert.shown &&= !isSaid(command);
    this.#commands = this.#commands.filter((command) => !isSaid(command));
    this.#checks = this.#checks.filter(({ command }) => !isSaid(command));
    // Where a check failed after it, it may have worked once the rules were back.
    const isDoubtful = ran && this.#checks.some(({ alert }) => alert.place > ran.place);
    const own = /^Error (?:un|re)?banning /.test(said) ? "" : said;
    const why = (!isDoubtful && ran?.why) || own;
    const blocked = !check || !/^(?:re)?ban$/.test(doing);
    const failed = this.#add({ event: "failed", id: ownCopy(id), doing, action, why, blocked });
    this.#lastPlace = this.seen.lines;
    const ban = doing === "ban" ? this.#idOf({ jail, id }).ban : undefined;
    // More of them have lines of their own: a line must fit a message.
    if (!ban?.shown || ban.failed.length === 3) return;
    ban.failed.push(failed);
    failed.shown = false;
  }
}

// Step two: in words.

/** So that the longest line fits a message: inline code must not be cut. */
const ID_LIMIT = 120;
/** How much room each part of a list has that does not fit whole. */
const LIST_LENGTH = 500;
const IN_FILE = ", all of them in the file";
/** Units of a ban's length; fail2ban writes their first letters. */
const UNITS = { year: 365 * DAY, week: 7 * DAY, day: DAY, h: HOUR, min: MINUTE, s: SECOND };
/** More of these share a line. */
const MOST_ALONE: Record<string, number> = { ban: 8, through: 8, unban: 3, restore: 3, repeal: 3 };

function shortened(text: string, limit: number): string {
  return text.length <= limit ? text : text.slice(0, characterBoundary(text, limit - 1)) + CUT_MARK;
}

/** In code, unless it is of words that mean nothing in any markup. */
function nameText(text: string, { code }: Markup): string {
  const isPlain = /^[\p{L}\p{N}]+(?:[ ._-][\p{L}\p{N}]+)*$/u.test(text);
  return isPlain && text.length <= ID_LIMIT ? text : code(text, ID_LIMIT);
}

/** The address of `203.0.113.7` or `203.0.113.0/24`; absent for any other id. */
function addressOf(id: string): string | undefined {
  const [, address = "", , bits] = /^([0-9a-fA-F.:]{2,45})(\/(\d{1,3}))?$/.exec(id) ?? [];
  const version = process.getBuiltinModule("node:net").isIP(address);
  return version > 0 && Number(bits ?? 0) <= (version === 4 ? 32 : 128) ? address : undefined;
}

/** `1 ban`, `2 bans`, `3 restored` */
function amount(count: number, noun: string, many = /ed\)?$/.test(noun) ? noun : `${noun}s`) {
  return `${count.toLocaleString("en")} ${count === 1 ? noun : many}`;
}

function timesText(count: number): string {
  return count > 1 ? ` ×${count.toLocaleString("en")}` : "";
}

/** Those parts that say something. */
function joined(parts: readonly (string | number | false | undefined)[], joint = ", "): string {
  return parts.filter(Boolean).join(joint);
}

/** Seconds of `1h 30m`, `1 day, 0:00:24` or `permanent` (-1); undefined for anything else. */
function secondsIn(length = ""): number | undefined {
  if (length === "permanent") return -1;
  const units = length.replace(/(\d+):(\d\d):(\d\d)/, "$1h $2m $3s");
  const parts = [...units.matchAll(/(\d+) ?([ywdhms])/g)].map(([, count, letter]) => {
    const [, ms = 0] = Object.entries(UNITS).find(([unit]) => unit[0] === letter) ?? [];
    return (Number(count) * ms) / SECOND;
  });
  return parts.length > 0 ? parts.reduce((a, b) => a + b) : undefined;
}

/** `10 min`, `1 week 2 days` */
function durationText(ms: number): string {
  let rest = Math.max(0, ms);
  const parts = Object.entries(UNITS).flatMap(([unit, size]) => {
    const count = Math.floor(rest / size);
    rest %= size;
    return count > 0 ? amount(count, unit, size < DAY ? unit : undefined) : [];
  });
  return parts.slice(0, 2).join(" ") || "0 s";
}

/** Values with the events that have them, the most frequent first. */
function groups<Each>(all: Iterable<Each>, valueOf: (each: Each) => string) {
  const grouped = [...Map.groupBy(all, valueOf)] as [string, [Each, ...Each[]]][];
  return grouped.sort((a, b) => b[1].length - a[1].length);
}

/** Puts things in words: how, and for whom; `room` is what a message holds, in UTF-16 units. */
export class Words {
  readonly style: Pick<Settings, "host" | "link"> &
    Pick<Service, "markup" | "overflow"> & { readonly room: number };
  readonly facts: Facts;

  constructor(style: Words["style"], facts: Facts) {
    [this.style, this.facts] = [style, facts];
  }

  /** A batch, empty if nothing is worth a message; `file`: all bans, where some do not fit. */
  batch({ happenings, found, other, view, from, to }: Batch): { text: string; file?: string } {
    const { markup, host } = this.style;
    const isAsked = view.only.has("found") || view.only.has("other");
    if (happenings.length === 0 && !(isAsked && found + other > 0)) return { text: "" };
    const lines = this.#lines(happenings);
    // `10:32:26 to 10:39:30 · 4,469 failed attempts · 12 other lines`
    const today = stampOf(wallClockMs(view.lastDay()) - DAY).slice(0, 10);
    const parts = [this.#period({ from, to }, today), ...this.#counts({ found, other })];
    const footer = joined(parts, " · ");
    const small = footer && `${markup.small(footer)}\n`;
    // Each message names the host once.
    const text = lines.map((line) => `${line.text}\n`).join("");
    const named = text.replace(" ", () => ` ${nameText(host, markup)} `);
    return { text: named + small, file: lines.map(({ file = "" }) => file).join("") };
  }

  /** A line for each; what would be the same line is one, as is more than a few of a kind. */
  #lines(all: readonly Happening[]): { place: number; text: string; file?: string }[] {
    const alike = groups(all, (each) => {
      // Smooth bans, and those whose actions failed alike.
      if (each.event === "ban") return `ban${this.#failures(each)}`;
      if (each.event === "through") return `through ${each.jail}`;
      return each.event in MOST_ALONE ? each.event : this.#line([each]);
    });
    const lines = alike.flatMap(([text, same]) => {
      const [{ event, place }] = same;
      const most = MOST_ALONE[event];
      if (most && same.length <= most)
        return same.map((each) => ({ place: each.place, text: this.#line([each]) }));
      const bans = same.filter((each) => each.event === "ban");
      if (bans.length > 0) return { place, ...this.#list(bans) };
      // What is equal is where the last was.
      if (!most) return { text: text + timesText(same.length), place: same.at(-1)?.place ?? place };
      return { place, text: this.#line(same) };
    });
    return lines.sort((a, b) => a.place - b.place);
  }

  /** A flood in one message; where no file has the lines, their first and last one are in it. */
  flood(flood: Flood, log: string): string {
    const { host, markup, overflow, room } = this.style;
    const { code } = markup;
    const hasFile = overflow === "file";
    const lines = joined([markup.bold(amount(flood.lines, "line")), this.#period(flood)]);
    const where = hasFile ? "attached" : `too many to show, they are in ${code(log, 200)}`;
    const jails = [...flood.jails].sort(([, a], [, b]) => busiestFirst(a, b));
    const counts = jails.map(([jail, { kinds }]) => {
      return `${jail ? this.jail(jail) : "of no jail:"} ${this.#counts(kinds).join(", ")}`;
    });
    const rows = [
      `🌊 ${nameText(host, markup)} ${lines}: ${where}`,
      fitting(counts, LIST_LENGTH, "\n", "\nand"),
      !hasFile && `first: ${code(flood.first, 120)}\nlast: ${code(flood.last, 120)}`,
    ];
    const text = joined(rows, "\n");
    const label = hasFile ? "\nmost seen: " : "\nbanned: ";
    const ids = flood.shownIds(this.style).map(({ id, times }) => this.id(id, times));
    return text + (ids.length > 0 ? label + fitting(ids, room - text.length - label.length) : "");
  }

  jail(jail: string): string {
    return this.style.markup.bold(`[${nameText(jail, this.style.markup)}]`);
  }

  /** An address as it is, with its country if that is known; anything else in code. */
  id(id: string, times = 1): string {
    // Groups of an IPv6 address that chat services would show as a picture.
    const isEmoji = /:(?:100|1234|ab?|abcd?|b|bed|bee|cd):/i.test(id);
    const text = addressOf(id) && !isEmoji ? id : this.style.markup.code(id, ID_LIMIT);
    const country = this.facts.countries.get(id);
    return text + (country ? ` ${countryText(country)}` : "") + timesText(times);
  }

  /** Different ids, the most frequent first. */
  #ids(all: readonly Happening[]): string[] {
    return groups(all, ({ id }) => id).map(([id, { length }]) => this.id(id, length));
  }

  /** `**[sshd]** 3, **[web]** 1` */
  #jailCounts(all: readonly Happening[]): string {
    const counts = groups(all, ({ jail }) => jail).map(([jail, { length }]) => {
      return `${this.jail(jail)} ${length.toLocaleString("en")}`;
    });
    return fitting(counts, LIST_LENGTH);
  }

  /** `276 bans`, `4,944 failed attempts` */
  #counts(kinds: Partial<Record<Kind, number>>): string[] {
    // prettier-ignore
    const nouns: Partial<Record<Kind, string>> = {
      unban: "unbanned", restore: "restored",
      found: "failed attempt", life: "restart", other: "other line",
    };
    return KINDS.flatMap((kind) => (kinds[kind] ? amount(kinds[kind], nouns[kind] ?? kind) : []));
  }

  /** From the first to the last time; with its day, where that is not `today`. */
  #period({ from, to }: Pick<Batch, "from" | "to">, today = ""): string {
    if (!from || !to) return "";
    const isOneDay = from.date === to.date;
    const begin = isOneDay && to.date === today ? from.time : `${from.date} ${from.time}`.trim();
    const end = isOneDay ? to.time : `${to.date} ${to.time}`.trim();
    return begin.endsWith(end) ? begin : `${begin} to ${end}`;
  }

  /** What happened: one thing, or as many as are too much for a line each. */
  #line(all: readonly [Happening, ...Happening[]]): string {
    const [each] = all;
    const { bold, code } = this.style.markup;
    const jail = each.jail && this.jail(each.jail);
    const isOne = all.length === 1;
    switch (each.event) {
      case "ban":
        return this.#ban(each);
      case "through": {
        const seen = all.filter((some) => some.event === "through");
        seen.sort((a, b) => b.attempts - a.attempts);
        const how = `through (${amount(sumOf(seen, "attempts"), "more attempt")})`;
        const what = "⚠️ the ban does not work:";
        if (isOne) return `${what} ${this.id(each.id)} is banned in ${jail} and still gets ${how}`;
        const who = amount(all.length, "address", "addresses");
        const ids = seen.map((some) => this.id(some.id, some.attempts));
        const list = fitting(ids, LIST_LENGTH);
        return `${what} ${who} are banned in ${jail} and still get ${how}: ${list}`;
      }
      case "server":
        return this.#server(each);
      case "failed": {
        const where = ` at ${each.doing}${each.id && ` of ${this.id(each.id)}`}`;
        const alarm = each.blocked ? "" : `🚨 ${bold("NOT blocked")}: `;
        return `⚠️ ${jail} ${alarm}${this.#failed(each, where)}`;
      }
      case "alert": {
        // What was raised is at the end, and is not cut off.
        const cut = shortened(each.text, each.why ? 150 : 300);
        return `⚠️ ${jail && `${jail} `}${code(joined([cut, each.why], " "), 300)}`;
      }
    }
    const [sign, did, many] = {
      unban: ["🔓", bold("UNBANNED"), "unbanned"],
      restore: ["♻️", "ban restored:", "restored"],
      repeal: ["♻️", "unbanned (jail stopped):", "unbanned (jail stopped)"],
      jailStarted: ["✅", "jail started"],
      jailStopped: ["⛔", "jail stopped"],
      jailReloaded: ["🔄", "jail reloaded"],
    }[each.event];
    if (isOne || !many) return `${sign} ${jail} ${did}${each.id && ` ${this.id(each.id)}`}`;
    return `${sign} ${bold(amount(all.length, many))}: ${this.#jailCounts(all)}`;
  }

  #server({ did, version, parts }: Of<"server">): string {
    const { jailStarted, jailStopped, restore, repeal } = parts;
    const signs: Record<string, string> = { stopped: "⛔", restarted: "🔄" };
    const jails = did === "stopped" ? jailStopped : jailStarted;
    const detail = joined([
      jails && amount(jails, "jail"),
      restore ? `${amount(restore, "ban")} restored` : repeal && `${amount(repeal, "ban")} lifted`,
    ]);
    const known = version && ` ${nameText(version, this.style.markup)}`;
    return `${signs[did] ?? "✅"} fail2ban${known} ${did}${detail && `: ${detail}`}`;
  }

  #failed({ action, why }: Of<"failed">, where = ""): string {
    const { bold, code } = this.style.markup;
    return bold(`action ${code(action, ID_LIMIT)} failed`) + where + (why && `: ${code(why, 200)}`);
  }

  #failures({ failed }: Of<"ban">): string {
    const isBlocked = failed.every(({ blocked }) => blocked);
    const alarm = isBlocked ? "" : `, but 🚨 ${this.style.markup.bold("NOT blocked")}`;
    return alarm + failed.map((each) => ` · ⚠️ ${this.#failed(each)}`).join("");
  }

  #ban(ban: Of<"ban">): string {
    const { id, form } = ban;
    const { style } = this;
    const { bold, code, link } = style.markup;
    const known = this.facts.bans.get(ban);
    const failures = known?.failures || ban.failures;
    const count = ban.count || (known?.count ?? 0);
    const { seconds = Number.NaN } = ban.count > 0 ? ban : { ...ban, ...known };
    const [tens, ones] = [count % 100, count % 10];
    const ending = ((tens < 11 || tens > 13) && ["th", "st", "nd", "rd"][ones]) || "th";
    const length = seconds < 0 ? "permanently" : `for ${durationText(seconds * SECOND)}`;
    const logged = known?.failures ? "" : " logged";
    const detail = joined([
      form === "longer" && "for longer",
      failures > 0 && `after ${amount(failures, "failed attempt")}${logged}`,
      count > 0 && `${count}${ending} ban`,
      !Number.isNaN(seconds) && length,
      form === "again" && "again: the firewall had lost it",
    ]);
    const what = `${this.id(id)}${/^\d/.test(detail) ? "," : ""} ${detail}`.trimEnd();
    const head = `🔔 ${this.jail(ban.jail)} ${bold("BANNED")} ${what}${this.#failures(ban)}`;
    const users = (known?.users ?? []).map((user) => code(user, 32));
    const address = addressOf(id);
    const url = address && style.link.replaceAll("{ip}", () => address);
    const parts = [
      head,
      users.length > 0 && `tried ${fitting(users, 100)}`,
      url && link(url, URL.parse(style.link)?.hostname ?? style.link),
      address && code(`fail2ban-client unban ${id}`, ID_LIMIT),
    ];
    const line = joined(parts, " · ");
    return line.length + style.host.length < style.room ? line : head;
  }

  /** Bans by jail and network, with every address; more than a message holds are a file. */
  #list(bans: readonly Of<"ban">[]): { text: string; file?: string } {
    const { overflow, room, host, markup } = this.style;
    const inNetwork = ({ id }: Happening) => networkOf(id) ?? id;
    const jails = groups(bans, ({ jail }) => jail);
    const count = markup.bold(amount(bans.length, "ban"));
    const failures = bans[0] ? this.#failures(bans[0]) : "";
    const head = `🔔 ${count} in ${amount(jails.length, "jail")}${failures}`;
    const lists = jails.map(([jail, inJail]) => {
      // No id has a line end. Lines of this length, so that messages can be cut between them.
      const words = groups(inJail, inNetwork).map(([network, same]) => {
        const ids = this.#ids(same).join(",\n");
        return ids.includes("\n") ? `${network}${timesText(same.length)} (${ids})` : ids;
      });
      const title = `${this.jail(jail)} ${inJail.length.toLocaleString("en")}:`;
      return filled([title, ...words.join(",\n").split("\n")], 300).join("\n");
    });
    const whole = [head, ...lists].join("\n");
    if (overflow === "none" || whole.length + host.length + 4 <= room) return { text: whole };
    const networks = groups(bans, inNetwork).flatMap(([network, same]) =>
      this.#ids(same).length > 1 ? network + timesText(same.length) : [],
    );
    const lines = [
      head + (overflow === "file" ? IN_FILE : ""),
      this.#jailCounts(bans),
      networks.length > 0 && `busiest networks: ${fitting(networks, LIST_LENGTH)}`,
      `addresses: ${fitting(this.#ids(bans), LIST_LENGTH)}`,
    ];
    // A line of the log may be as large as a file may be.
    const rows = bans.map(({ time, jail, id }) => `${time} [${jail}] ${shortened(id, 1_000)}\n`);
    const file = overflow === "file" ? rows.map((row) => row.trimStart()).join("") : "";
    return { text: joined(lines, "\n"), file };
  }
}

/** What many lines of the log come to, in one message instead of all of them. */
class Flood extends Counts {
  lines = 0;
  first = "";
  last = "";

  /** Adds up those of the log's next lines that are shown. */
  read(lines: readonly string[]): void {
    for (const line of lines) {
      const record = this.context.read(line);
      if (!isShown(record ?? this.context.record, this.view)) continue;
      this.last = line;
      if (this.lines++ === 0) this.first = line;
      if (record) this.add(record);
    }
  }

  /** The busiest ids; where nothing else shows them, every banned one. */
  shownIds({ overflow }: Words["style"]): { id: string; times: number }[] {
    if (overflow !== "file") return Array.from(this.banned, (id) => ({ id, times: 1 }));
    return this.busiest(10).map(({ id, found, banned }) => ({ id, times: found + banned }));
  }
}

// ── Core: where to read ─────────────────────────────────────────────────────────────────────────
// Given what was saved, asks the files and says which bytes to read, oldest first. Content
// proves which file is which; inode, size and times never do.

/** How much of a long line proves where a cursor is. */
const ANCHOR_LINE_BYTES = 4 * 1024;
/** How far back the lines before the last one are looked at. */
const ANCHOR_TAIL_BYTES = 32 * 1024;
/** So many lines without a time tell the last of them from others. */
const MARKED_LINES = 8;
/** How much of a file's beginning is hashed. */
const HEAD_BYTES = 512;

/**
 * 64 bits that tell contents apart, as 16 hex digits. Not for secrets: loading a real digest costs
 * every idle run a millisecond, and it gains nothing to forge one line's hash.
 */
export function fingerprint(content: Uint8Array | string): string {
  const bytes = typeof content === "string" ? encoder.encode(content) : content;
  let a = 0xdeadbeef;
  let b = 0x41c6ce57;
  for (let index = 0; index < bytes.length; index++) {
    const byte = bytes[index] ?? 0;
    a = Math.imul(a ^ byte, 0x9e3779b1);
    b = Math.imul(b ^ byte, 0x5f356495);
  }
  a = Math.imul(a ^ (a >>> 16), 0x85ebca6b) ^ Math.imul(b ^ (b >>> 13), 0xc2b2ae35);
  b = Math.imul(b ^ (b >>> 16), 0x85ebca6b) ^ Math.imul(a ^ (a >>> 13), 0xc2b2ae35);
  return [a, b].map((word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
}

/** The lines that end in `bytes`, newest first; of the oldest one only the end may be there. */
function* linesBack(bytes: Uint8Array): Generator<Uint8Array> {
  for (let end = bytes.length; end > 0;) {
    const start = end < 2 ? 0 : bytes.lastIndexOf(NEWLINE, end - 2) + 1;
    yield bytes.subarray(start, end);
    end = start;
  }
}

/** The last line, at most its last 4 KiB. */
function lastLine(bytes: Uint8Array): Uint8Array {
  return (linesBack(bytes).next().value ?? bytes).subarray(-ANCHOR_LINE_BYTES);
}

/**
 * What tells the first of these lines, newest first, from others. One without a time proves
 * nothing by itself: it counts together with those before it, and is unknown ("") where they are few.
 */
function markOf(lines: readonly Uint8Array[]): string {
  const hashes: string[] = [];
  for (const line of lines) {
    const hash = fingerprint(line.subarray(-ANCHOR_LINE_BYTES));
    hashes.push(hash);
    const isDated = line.length >= ANCHOR_LINE_BYTES || lineTime(line) !== "";
    if (isDated && hashes.length === 1) return hash;
    if (isDated || hashes.length === MARKED_LINES) return fingerprint(hashes.join());
  }
  return "";
}

/** Anchors with the same one are of the same place. */
function placeMark({ offset, lastLineHash, headHash }: Anchor): string {
  return [offset, lastLineHash, headHash.at(-1)].join();
}

function sameAnchor(one: Anchor, other: Anchor): boolean {
  return placeMark(one) === placeMark(other);
}

/** The time of a line that stands right behind what a cut left of another one; else empty. */
function gluedTime(line: Uint8Array): string {
  const text = utf8.decode(line.subarray(0, ANCHOR_LINE_BYTES));
  return /^.+?(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) /.exec(text)?.[1] ?? "";
}

/** The time of a line, which sorts as text; empty where it has none. */
function lineTime(line: Uint8Array): string {
  const text = utf8.decode(line.subarray(0, 400));
  const time = /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:,\d{3})?/.exec(text);
  if (time) return time[0];
  const record = readRecord(text.replace(/\r?\n[^]*$/, ""));
  // A date without its year does not sort.
  return record && record.date.length > 5 ? `${record.date} ${record.time}` : gluedTime(line);
}

/** The time of the first line that begins with one; empty when none does. */
function firstTimeIn(bytes: Uint8Array): string {
  for (let start = 0; start < bytes.length;) {
    const time = lineTime(bytes.subarray(start));
    const end = bytes.indexOf(NEWLINE, start);
    if (time || end < 0) return time;
    start = end + 1;
  }
  return "";
}

const PACKED_NAME = /\.(?:gz|zst|xz|bz2|lz4)$/;

/** The program that unpacks a file which begins like this, since a name may be wrong; or absent. */
function packingOf(head: Uint8Array): string | undefined {
  // prettier-ignore
  const programs = {
    "1f8b": "gzip", "28b52ffd": "zstd", "502a4d18": "zstd", fd377a585a00: "xz", "425a68": "bzip2",
    "04224d18": "lz4",
  };
  const start = Buffer.from(head.subarray(0, 6)).toString("hex");
  return Object.entries(programs).find(([magic]) => start.startsWith(magic))?.[1];
}

/**
 * What a name beside the log says: absent when it is not made of the log's. Behind the stem alone,
 * as in `fail2ban-web.log`, a name may be another log's, unless a number, date or word tells.
 */
function siblingName(log: string, name: string) {
  const dot = log.lastIndexOf(".");
  const [stem, ending] = dot > 0 ? [log.slice(0, dot), log.slice(dot)] : [log, ""];
  if (name === log || !name.startsWith(stem)) return undefined;
  const beside = name.startsWith(log);
  const rest = name.slice((beside ? log : stem).length);
  if (!/^[-._~ ]/.test(rest) || (!beside && !rest.includes(ending))) return undefined;
  const plain = (beside ? rest : rest.replace(ending, "")).replace(PACKED_NAME, "");
  const digits = /^\.(\d{1,4})$/.exec(plain)?.[1];
  const number = digits === undefined ? undefined : Number(digits);
  const word = /\b(?:old|bak|prev)\w*/i;
  // `fail2ban-10.0.0.5.log` and `fail2ban-web-2024-01.log` are of other hosts.
  const isOther = !beside && /[a-z]|^.(?:\d{1,3}\.){3}\d{1,3}$/i.test(plain.replace(word, ""));
  const isRotated = !isOther && /^\.\d{1,4}$|\d{4}[-._]?\d\d|(?:\.\d{1,4}){2}/.test(plain);
  const isOld = isRotated || (!isOther && word.test(plain));
  // It may be another log's: contents must say.
  const isStranger = !beside && !isOld;
  return { isRotated, isOld, isStranger, number };
}

/**
 * The oldest first. Numbers give their own order; all others are where their first date puts
 * them, or of those that begin alike the last one. A file without a date is as old as the one
 * before it in the order of numbers, or older than all.
 */
function byAge<File extends Pick<OpenFile, "name" | "number" | "firstTime" | "lastTime">>(
  files: readonly File[],
) {
  let oldest = "";
  const named = files.toSorted(
    (a, b) =>
      (b.number ?? -1) - (a.number ?? -1) || (a.firstTime + a.name < b.firstTime + b.name ? -1 : 1),
  );
  const ages = named.map((file) => {
    const { number, firstTime, lastTime } = file;
    const own = `${firstTime} ${lastTime}`;
    if (number !== undefined && own > oldest) oldest = own;
    return { file, age: number === undefined ? own : oldest };
  });
  ages.sort((a, b) => (a.age === b.age ? 0 : a.age < b.age ? -1 : 1));
  return ages.map(({ file }) => file);
}

/**
 * `sent`: up to where it is known to be sent; `isDone`: the file is done, so that its last line
 * counts even without a line end; `end` proves that it was left there.
 */
interface Segment {
  readonly file: OpenFile;
  readonly from: number;
  readonly sent: number;
  readonly isDone: boolean;
  readonly end?: Anchor | undefined;
}

/**
 * Decides which bytes to read: of each file what follows the last line that is known to be sent.
 * The files come oldest first. A rotated file is done only when the live one has a complete line:
 * until then fail2ban may still write to it. `isGap`: lines may be missing before the segments;
 * `resumes`: some segments begin behind lines that are known; `done`: of these all was sent.
 */
function planRead(progress: Progress, all: readonly OpenFile[]) {
  const { cursor } = progress;
  const files = all.filter((file) => !file.isCopyIn(all));
  const isHere = files.some((file) => cursor && file.matches(cursor));
  const finds = new Map(files.map((file) => [file, file.found(progress, isHere)]));
  const foundBy = (proof: string) => files.findLast((file) => finds.get(file)?.by === proof);
  const holder = foundBy("position") ?? foundBy("last line");
  const isGap = cursor !== undefined && !holder;
  const place = holder ?? foundBy("lines");
  const age = place ? files.indexOf(place) : -1;
  // Where the position is known, a younger file that begins like an older one is another one.
  const knownIn = (file: OpenFile) => {
    const { offset = 0, end = 0, isProven = true } = finds.get(file) ?? {};
    // Of an older one all was sent, unless it could not be read.
    const isOlder = files.indexOf(file) < age;
    if (isGap || (isOlder && !file.wasLeftOut(progress))) return offset;
    return isProven || isOlder ? end : 0;
  };
  const { lastTime = "", trail = [] } = cursor ?? {};
  const hasLiveLine = files.some((file) => file.isLive && file.hasLine());
  const segments: Segment[] = [];
  const done: OpenFile[] = [];
  for (const [index, file] of files.entries()) {
    const isHolder = file === holder;
    // All of it was sent, or lay there before, whatever became of it. The order of dates is not
    // sure, as a clock may have been put back: there it must end before the oldest known line.
    const isNumbered = file.number !== undefined && place?.number !== undefined;
    const isSure = (place?.isLive || isNumbered) && !file.wasLeftOut(progress);
    const knownSince = (isSure ? lastTime : trail.at(-1)?.[2]) ?? "";
    if (index < age && file.lastTime !== "" && file.lastTime < knownSince) continue;
    const sent = Math.max(knownIn(file), file.finishedAt(progress));
    let from = sent;
    for (const older of [...segments]) {
      const end = file.overlap(older.file);
      // What this file has behind other lines was trimmed off it, and is read here.
      const isTrimmed = older.from === 0 && older.file !== holder && file.holds(older.file, end);
      if (isTrimmed) segments.splice(segments.indexOf(older), 1);
      // Lines may have been taken out of the older one.
      else if (end > from && file.countLines(0, end) <= older.file.countLines(0, older.file.size))
        from = end;
    }
    const isUnread = file.isLive ? hasLiveLine || from > 0 : from < file.size;
    if (sent === file.size && !isHolder) done.push(file);
    if (isHolder || isUnread) segments.push({ file, from, sent, isDone: !file.isLive });
  }
  const last = segments.at(-1);
  if (last && !hasLiveLine) segments.splice(-1, 1, { ...last, isDone: false });
  const resumes = isGap && files.some((file) => knownIn(file) > file.finishedAt(progress));
  // A line of which a part was sent is sent to its end before what turned up of older lines.
  const begun = progress.part && !holder?.isLive ? holder : undefined;
  segments.sort((one, other) => Number(other.file === begun) - Number(one.file === begun));
  return { isGap, resumes, segments, done };
}
type Plan = ReturnType<typeof planRead>;

// ── Core: services ──────────────────────────────────────────────────────────────────────────────
// Pure. Where messages go: each service is one literal, and SERVICES is the only place that knows
// them all. What a service is sent and what it answers is data; "World: destinations" makes
// the request.

/** Named to services that want to know who is calling. */
const HOMEPAGE = "https://github.com/f2b-watch/f2b-watch";

const HINTS = {
  later: "usually temporary: the next run tries again, and no line is lost",
  reach: "check the connection from this machine: curl -sSI HOST",
  between: "a proxy or firewall may have replied: curl -sSI HOST",
  mend: "check its settings there, or create a new webhook",
};

/**
 * How each verdict ends a destination's part of a run: the exit code, a hint if the service's own
 * code has none, and how long to let it rest, doubled each time up to a maximum.
 */
type Ending = readonly [exitCode: number, hint?: string, firstMs?: number, longestMs?: number];
const VERDICTS = {
  confirmed: [0],
  /** Accepted, but not confirmed. */
  unproven: [0],
  /** Discord says how long; Cloudflare does not, so wait at least a quarter of an hour. */
  limited: [75, HINTS.later, 15 * MINUTE, HOUR],
  /** Temporarily. */
  busy: [75, HINTS.later, MINUTE, HOUR],
  /** It provably never left. */
  unsent: [75, HINTS.reach],
  /** It may have arrived. */
  unclear: [75, HINTS.reach, MINUTE, 10 * MINUTE],
  /** Because of its content. */
  refused: [69, "check which words or links the channel's filters block", HOUR, HOUR],
  tooLarge: [69],
  badName: [78, HINTS.mend, HOUR, DAY],
  /** Permanently, by a code of the service's own. */
  dead: [69, HINTS.mend, DAY, DAY],
  denied: [69, HINTS.mend, HOUR, HOUR],
  misconfigured: [78, HINTS.mend, HOUR, DAY],
  /** By the runtime. */
  forbidden: [78],
} satisfies Record<string, Ending>;

/** What a reply, or the lack of one, means for one message; `why` and `hint` are for people. */
export interface Verdict {
  readonly kind: keyof typeof VERDICTS;
  readonly why: string;
  readonly hint?: string | undefined;
  readonly waitMs?: number | undefined;
  /** What the service's headers ask for before the next message. */
  readonly delayMs?: number;
}

/** A reply as received; the body may be any text. */
type Reply = Readonly<{ status: number; headers: Record<string, string>; body: string }>;

/** A request; a body that is no form is sent as JSON. */
type Call = Readonly<{ url: string; headers?: Record<string, string>; body?: object }>;

type AttachedFile = Readonly<{ name: string; text: string | Uint8Array<ArrayBuffer> }>;

/** What a service reports when asked without posting. */
interface Asked {
  readonly text: string;
  /** What only a real message can show. */
  readonly doubt: string;
  /** Earlier refusals that this reply does not disprove; absent if it disproves all of them. */
  readonly untouched: RegExp | undefined;
  /** The bot's name in Slack. */
  readonly bot?: string;
}

interface Service {
  readonly name: string;
  readonly title: string;
  /** Its variables, each with its text for `--help`. */
  readonly variables: Readonly<Record<string, string>>;
  /** Which of them must be set. */
  readonly needs: string;
  readonly userAgent: string;
  /** Matches its own hosts and paths. */
  readonly owns: RegExp;
  /** Characters per message. */
  readonly limit: number;
  /** At most this many posts in each window. */
  readonly pace: readonly (readonly [posts: number, windowMs: number])[];
  readonly markup: Markup;
  readonly hasColors: boolean;
  /** How a flood is sent. */
  readonly overflow: "file" | "summary" | "none";
  /** What its codes mean: names of errors or numbers, separated by spaces. */
  readonly meanings: readonly (readonly [string, Verdict["kind"], why: string, hint?: string])[];
  /** Log text as the service wants it. */
  encode(text: string): string;
  /** The line above a message that begins with these words. */
  header(host: string, words: string): string;
  /** What an answer to a message means, but for a 429. */
  read(reply: Reply): Verdict;
  /** Reads its variables; absent if none is set. */
  connect(variable: Lookup): Connected | undefined;
}

/** A configured service. */
interface Connected extends Service {
  /** Shows whether settings have changed, for a destination that refused. */
  readonly settings: string;
  readonly host: string;
  /** What must never be shown. */
  readonly secrets: readonly string[];
  /** Without `sender` the service shows its own name for us. */
  compose(content: string, sender: string | undefined, file: AttachedFile | undefined): Call;
  /** How to ask without posting, or what to report if that is impossible. */
  readonly ask: (Call & { read(reply: Reply): Asked | undefined }) | Asked;
}

/** Reads fields of a reply in JSON; one of another type counts as missing. */
function fieldsOf({ body }: Reply) {
  const fields = ifPossible((): unknown => JSON.parse(body));
  const as =
    <Type>(schema: Zod.ZodMiniType<Type>) =>
    (name: string) =>
      z.safeParse(schema, Object(fields)[name]).data;
  const object = as(z.record(z.string(), z.unknown()));
  return { text: as(z.string()), number: as(z.number()), flag: as(z.boolean()), object };
}

/** The verdict on a reply to a posted message. */
export function readReply(service: Service, reply: Reply): Verdict {
  const msOf = (name: string) => {
    const seconds = Number.parseFloat(reply.headers[name] ?? "");
    return seconds >= 0 && seconds < Infinity ? seconds * SECOND : -1;
  };
  const isLast = reply.headers["x-ratelimit-remaining"] === "0";
  const delayMs = isLast ? Math.min(msOf("x-ratelimit-reset-after"), DAY) : 0;
  if (reply.status !== 429) return { ...service.read(reply), delayMs };
  // The longer of two waits: the header's, and the one in the body of Discord's reply.
  const seconds = fieldsOf(reply).number("retry_after") ?? -1;
  const waitMs = Math.max(seconds * SECOND, msOf("retry-after"));
  return { kind: "limited", why: "rate limited", waitMs: waitMs < 0 ? undefined : waitMs, delayMs };
}

/** The verdict on a reply that cannot come from the service itself. */
function notAs(title: string, { status }: Reply): Verdict {
  const why = `the reply (${status}) is not from ${title}`;
  return { kind: "unclear", why, hint: HINTS.between };
}

/** The verdict on an error: by its code, else by the status. */
function readError(service: Service, code: string, reply: Reply): Verdict {
  const { status } = reply;
  const known = service.meanings.find(([codes]) => code !== "" && codes.split(" ").includes(code));
  const names = [status === 200 ? "" : `${status}`, /^\d+$/.test(code) ? `code ${code}` : code];
  const label = `(${names.filter((name) => name !== "").join(", ") || "no error code"})`;
  if (known?.[1] === "limited") return readReply(service, { ...reply, status: 429 });
  if (known) return { kind: known[1], why: `${known[2]} ${label}`, hint: known[3] };
  if (status >= 500 || status === 408)
    return { kind: "unclear", why: `server error ${label}`, hint: HINTS.later };
  if (status === 413) return { kind: "tooLarge", why: `the message is too large ${label}` };
  if (!code.startsWith("invalid_") && [200, 401, 403, 404, 410].includes(status))
    return { kind: "denied", why: `access refused ${label}` };
  return { kind: "misconfigured", why: `the message was rejected ${label}` };
}

/** A variable's text; absent if it is empty or unset. */
type Lookup = (name: string) => string | undefined;

/** Parses a variable's URL: `https:` or loopback, and not another service's; never echoes it. */
function urlOf(service: Service, name: string, text: string, example: string, path = /^/): URL {
  const expected = (found: string, hint = `copy it again from ${service.title}`) =>
    new Fault(78, `${name}: expected ${example}, found ${found}`, hint);
  if (/[\s"'`<>]/.test(text.trim())) throw expected("a space or a quote in it");
  const url = URL.parse(text);
  const isLocal = /^(localhost|127(\.\d+){3}|\[::1\])$/.test(url?.hostname ?? "");
  if (!url || (url.protocol !== "https:" && !(url.protocol === "http:" && isLocal)))
    throw expected(url?.protocol === "http:" ? "http: instead of https:" : "something else");
  const owner = SERVICES.find(({ owns }) => owns.test(url.hostname + url.pathname));
  if (owner && owner !== service)
    throw expected(`a ${owner.title} URL`, `for ${owner.title}, set ${owner.needs}`);
  // People have webhooks of Telegram, Microsoft Teams and Google Chat, too.
  const others =
    /(?:^|\.)(?:telegram\.org|(?:office(?:365)?|logic\.azure|powerplatform|googleapis)\.com)$/;
  if (!owner && others.test(url.hostname)) throw expected("another service's URL");
  if (!path.test(url.pathname) || (owner && url.pathname === "/"))
    throw expected("a different path");
  return url;
}

const NEW_WEBHOOK =
  "Discord, channel settings, Integrations, Webhooks: copy or create one, and set DISCORD_WEBHOOK";

export const DISCORD: Service = {
  name: "discord",
  title: "Discord",
  variables: { DISCORD_WEBHOOK: "https://discord.com/api/webhooks/…[?thread_id=…]" },
  needs: "DISCORD_WEBHOOK",
  /** In the form that https://docs.discord.com/developers/reference#user-agent requires. */
  userAgent: `DiscordBot (${HOMEPAGE}, ${VERSION})`,
  owns: /^(?:[^/]+\.)?discord(?:app)?\.com\/|^[^/]+\/api\/(?:v\d+\/)?webhooks\//,
  /** Under 2000, which Discord allows. */
  limit: 1_999,
  /** 5 in 2 s per webhook (in headers), 30 in 60 s per channel (in no header); one to spare. */
  // prettier-ignore
  pace: [[5, 2_000], [29, 60_000]],
  markup: {
    bold: (text) => `**${text}**`,
    code: (text, limit) => `\`${shortened(inCode(text), limit)}\``,
    // In angle brackets no preview follows.
    link: (url, label) => `[${label}](<${url}>)`,
    small: (text) => `-# ${text}`,
  },
  hasColors: true,
  overflow: "file",
  /** https://docs.discord.com/developers/topics/opcodes-and-status-codes */
  // prettier-ignore
  meanings: [
    ["10015", "dead", "the webhook was deleted", NEW_WEBHOOK],
    ["50027", "dead", "the webhook's token is invalid", NEW_WEBHOOK],
    ["10003", "dead", "the channel or thread was deleted",
      "set DISCORD_WEBHOOK to one that exists"],
    ["50001 50013", "dead", "the webhook may not post to its channel", NEW_WEBHOOK],
    ["50006 200000 240000", "refused", "the content was refused"],
    ["40005", "tooLarge", "the message is too large"],
    ["50083 160005", "misconfigured", "the thread is archived or locked",
      "reopen it in Discord, or use another"],
    ["220001 220002 220003 220004", "misconfigured", "a forum accepts posts only in a thread",
      "append ?thread_id=<id> to DISCORD_WEBHOOK"],
    ["20016 20028 40004 40006 40062 130000", "busy", "no messages are accepted at the moment"],
  ],
  encode: (text) => text,
  header: () => "",
  read(reply) {
    const { text, number, object } = fieldsOf(reply);
    const [code, errors] = [number("code") ?? 0, object("errors")];
    if (reply.status < 300) {
      if (text("id")) return { kind: "confirmed", why: "" };
      if (reply.status === 204) return { kind: "unproven", why: "" };
      return notAs(this.title, reply);
    }
    const verdict = readError(this, code === 0 ? "" : `${code}`, reply);
    if (verdict.kind !== "misconfigured") return verdict;
    if (errors?.["username"]) return { ...verdict, kind: "badName" };
    return code === 50035 && errors?.["content"] ? { ...verdict, kind: "refused" } : verdict;
  },
  connect(variable) {
    const text = variable("DISCORD_WEBHOOK");
    if (text === undefined) return undefined;
    const path = /^\/api\/(?:v\d+\/)?webhooks\/([^/]+)\/([^/]+)\/?$/;
    const example = "https://discord.com/api/webhooks/<id>/<token>";
    const named = urlOf(this, "DISCORD_WEBHOOK", text, example, path);
    const host = named.host === "discordapp.com" ? "discord.com" : named.host;
    // Without a version Discord replies as v6; without wait=true it does not confirm messages.
    const versioned = named.pathname.replace(path, "/api/v10/webhooks/$1/$2");
    const webhook = `${named.protocol}//${host}${versioned}`;
    const thread = named.searchParams.get("thread_id");
    if (thread && !/^\d{1,20}$/.test(thread)) {
      const expected = "expected ?thread_id=<digits>, found something else";
      throw new Fault(78, `DISCORD_WEBHOOK: ${expected}`, "copy the thread's id from Discord");
    }
    const url = `${webhook}?wait=true${thread ? `&thread_id=${thread}` : ""}`;
    return {
      ...this,
      settings: fingerprint(url),
      host,
      secrets: [webhook.replace(/.*\//, "")],
      compose(content, username, file) {
        // 1 << 2: no link previews.
        const payload = { content, allowed_mentions: { parse: [] }, flags: 4, username };
        if (!file) return { url, body: payload };
        const body = new FormData();
        const type = "text/plain; charset=utf-8";
        body.set("payload_json", JSON.stringify(payload));
        body.set("files[0]", new Blob([file.text], { type }), file.name);
        return { url, body };
      },
      ask: {
        url: webhook,
        read: (reply) => {
          const { text: field } = fieldsOf(reply);
          if (reply.status >= 300 || !field("id")) return undefined;
          const title = field("name")?.slice(0, HOST_LIMIT) ?? "without a name";
          return {
            text: `webhook "${title}" of channel ${field("channel_id") ?? "?"}`,
            doubt: thread ? `whether thread ${thread} is there` : "",
            untouched: thread ? /code (?:10003|50001|50013|50083|160005)\b/ : undefined,
          };
        },
      },
    };
  },
};

const COPY_TOKEN = "api.slack.com/apps, OAuth & Permissions: copy the token, and set SLACK_TOKEN";
const ADD_SCOPE = "api.slack.com/apps, OAuth & Permissions: add chat:write, then reinstall the app";
const NEW_SLACK_WEBHOOK =
  "api.slack.com/apps, Incoming Webhooks: create a new one, and set SLACK_WEBHOOK";
const INVITE = "in Slack, in that channel: /invite @<the bot>; or set SLACK_CHANNEL to its id";

export const SLACK: Service = {
  name: "slack",
  title: "Slack",
  variables: {
    SLACK_WEBHOOK: "https://hooks.slack.com/services/…; or instead:",
    SLACK_TOKEN: "a bot's token (xoxb-…, scope chat:write), and",
    SLACK_CHANNEL: "the channel it posts to",
    SLACK_ICON: "the bot's icon (:bank:)",
    SLACK_API_URL: "(https://slack.com/api/)",
  },
  needs: "SLACK_WEBHOOK, or SLACK_TOKEN and SLACK_CHANNEL",
  userAgent: `f2b-watch/${VERSION} (${HOMEPAGE})`,
  owns: /^(?:[^/]+\.)?slack(?:-gov)?\.com\//,
  /** After escaping; Slack splits text over 4,000 characters, even inside a fence. */
  limit: 1_999,
  /** One message per second and channel, https://docs.slack.dev/apis/web-api/rate-limits */
  pace: [[1, 1_000]],
  markup: {
    bold: (text) => `*${text}*`,
    code: (text, limit) => `\`${shortened(escapeSlack(inCode(text)), limit)}\``,
    link: (url, label) => `<${escapeSlack(url)}|${label}>`,
    small: (text) => `_${text}_`,
  },
  hasColors: false,
  overflow: "summary",
  /** https://docs.slack.dev/reference/methods/chat.postMessage, and the texts of its webhooks. */
  // prettier-ignore
  meanings: [
    ["not_in_channel", "dead", "the bot is not in the channel", INVITE],
    ["channel_not_found", "dead", "no such channel, or the bot is not in it", INVITE],
    ["is_archived channel_is_archived", "dead", "the channel is archived",
      "unarchive the channel in Slack, or set another one"],
    ["missing_scope", "dead", "the token lacks a scope", ADD_SCOPE],
    ["no_service no_team invalid_token no_active_hooks", "dead", "the webhook was deleted",
      NEW_SLACK_WEBHOOK],
    ["not_authed invalid_auth account_inactive token_revoked token_expired not_allowed_token_type",
      "dead", "the token is invalid", COPY_TOKEN],
    ["no_permission restricted_action restricted_action_read_only_channel ekm_access_denied " +
      "restricted_action_thread_only_channel access_denied accesslimited " +
      "enterprise_is_restricted two_factor_setup_required deprecated_endpoint " +
      "method_deprecated action_prohibited " +
      "user_not_found posting_to_general_channel_denied",
      "dead", "posting there is not allowed"],
    // After these, says Slack, the message may have arrived.
    ["internal_error fatal_error request_timeout rollup_error", "unclear", "server error",
      HINTS.later],
    ["service_unavailable team_added_to_org org_login_required", "busy", "temporarily unavailable"],
    ["ratelimited rate_limited message_limit_exceeded", "limited", "rate limited"],
    ["msg_too_long no_text", "refused", "the content was refused"],
  ],
  encode: escapeSlack,
  // Slack may ignore our sender's name, so the text names the host.
  header(host, words) {
    // A line of ours already names it, behind its emoji.
    const isNamed = words.startsWith(nameText(host, SLACK.markup), words.indexOf(" ") + 1);
    return isNamed ? "" : `*${escapeSlack(host)}*\n`;
  },
  /** The API replies in JSON, with status 200 even for failures; a webhook in plain text. */
  read(reply) {
    const { text: field, flag } = fieldsOf(reply);
    const text = flag("ok") === undefined ? reply.body.trim() : (field("error") ?? "");
    const code = /^[a-z_]{1,60}$/.test(text) ? text : "";
    // Posted without its end: sent again in halves, because a duplicate is better than a loss.
    if (field("warning")?.includes("message_truncated"))
      return { kind: "refused", why: "it was cut short (message_truncated)" };
    const isKnown = this.meanings.some(([codes]) => codes.split(" ").includes(code));
    // Compatible receivers: Rocket.Chat, Mattermost, Slack's own workflow triggers.
    const isNo = /"(?:ok|success)"\s*:\s*false/.test(reply.body) || isKnown;
    if (reply.status >= 300 || isNo) return readError(this, code, reply);
    const isProven = field("ts") !== undefined || text === "ok";
    return { kind: isProven ? "confirmed" : "unproven", why: "" };
  },
  /** As a bot in a channel, or by an incoming webhook. */
  connect(variable) {
    const token = variable("SLACK_TOKEN");
    const channel = variable("SLACK_CHANNEL") ?? "";
    const webhook = variable("SLACK_WEBHOOK");
    const slackApi = "https://slack.com/api/";
    const api = urlOf(this, "SLACK_API_URL", variable("SLACK_API_URL") ?? slackApi, slackApi);
    const icon = variable("SLACK_ICON") ?? ":bank:";
    if (webhook && token)
      throw new Fault(78, "SLACK_WEBHOOK and SLACK_TOKEN are both set", "keep one of them");
    if (!webhook && !token !== !channel)
      throw new Fault(78, `SLACK_${token ? "CHANNEL" : "TOKEN"} is missing`, `set ${this.needs}`);
    // Receivers that are nearly Slack have tokens of their own.
    const isSlack = this.owns.test(`${api.hostname}/`);
    if (token && !(isSlack ? /^xox[a-z][-.][!-~]+$/ : /^[!-~]+$/).test(token))
      throw new Fault(78, "SLACK_TOKEN: expected xoxb-…, found something else", COPY_TOKEN);
    if (!/^:[\w+'-]{1,100}:$/.test(icon)) {
      const expected = "an emoji's name between colons (:bank:)";
      throw new Fault(78, `SLACK_ICON: expected ${expected}, found ${quoted(icon)}`);
    }
    const quiet = { unfurl_links: false, unfurl_media: false, mrkdwn: true };
    if (webhook) {
      const gone = ["channel_not_found", "dead", "no such channel", NEW_SLACK_WEBHOOK] as const;
      const example = "https://hooks.slack.com/<path>";
      const { href: url, host, pathname } = urlOf(this, "SLACK_WEBHOOK", webhook, example);
      return {
        ...this,
        meanings: [gone, ...this.meanings],
        settings: fingerprint(`${url}""`),
        host,
        secrets: [pathname, pathname.replace(/.*\//, "")],
        compose: (text) => ({ url, body: { ...quiet, text } }),
        ask: { text: "an incoming webhook", doubt: "whether it works", untouched: /./ },
      };
    }
    if (!token) return undefined;
    const url = api.href.replace(/\/*$/, "/chat.postMessage");
    const headers = { authorization: `Bearer ${token}` };
    return {
      ...this,
      settings: fingerprint(url + JSON.stringify({ token, channel })),
      host: api.host,
      secrets: [token],
      compose: (text, username) => {
        return { url, headers, body: { channel, username, icon_emoji: icon, ...quiet, text } };
      },
      ask: {
        url: new URL("auth.test", url).href,
        headers,
        body: {},
        read: (reply) => readIdentity(reply, channel),
      },
    };
  },
};

/** Reads the reply of Slack's `auth.test`. */
function readIdentity(reply: Reply, channel: string): Asked | undefined {
  const { text: field, flag } = fieldsOf(reply);
  if (!flag("ok")) return undefined;
  const [user = "bot", team = "a team without a name"] = [field("user"), field("team")];
  const bot = `@${user.slice(0, HOST_LIMIT)}`;
  const text = `${bot} of ${team.slice(0, HOST_LIMIT)}`;
  const scopes = reply.headers["x-oauth-scopes"]?.split(/[, ]+/);
  const has = (wanted: RegExp) => scopes?.some((scope) => wanted.test(scope)) ?? true;
  // Scopes that let a token post: today's, and those of classic apps.
  if (!has(/^(?:chat:write(?::bot|:user)?|bot|client|post)$/))
    throw new Fault(69, `${text} lacks the scope chat:write`, ADD_SCOPE);
  const note = has(/^chat:write\.customize$|^bot$/)
    ? ""
    : ", without chat:write.customize (shows the app's own name and icon)";
  const doubt = `whether it may post to ${channel.slice(0, HOST_LIMIT)}`;
  return { text: text + note, doubt, untouched: /channel|archived|restricted/, bot };
}

const SERVICES: readonly Service[] = [DISCORD, SLACK];

const SET_ONE = `set ${SERVICES.map(({ needs }) => needs).join(", ")}`;

// ── Core: how to send ───────────────────────────────────────────────────────────────────────────
// Pure. Keeps a service's limits and decides what follows each verdict.

/** How long to wait for the pace and for what the service's headers asked. */
function turnDelayMs({ posts, asked }: Channel, pace: Service["pace"], now: number): number {
  const ends = pace.map(([count, windowMs]) => {
    const oldest = posts.at(-count);
    // A time in the future means that the clock was set back.
    return oldest === undefined || oldest > now ? now : oldest + windowMs + 1;
  });
  if (asked && asked.at <= now) ends.push(asked.at + asked.delayMs);
  return Math.max(now, ...ends) - now;
}

/** The verdict on a failed fetch. Error texts may contain the URL, so `why` is in our own words. */
export function readFetchError(error: unknown, proxy?: string): Verdict {
  const { name, code, message, cause } = Object(error);
  if (name === "TimeoutError" || name === "AbortError")
    return { kind: "unclear", why: "no answer in time" };
  if (name === "NotCapable") {
    const hint = "deno run … --allow-net=HOST";
    return { kind: "forbidden", why: "Deno may not connect to it", hint };
  }
  const text = `${code} ${message} ${Object(cause).message}`.replace(/https?:\/\/\S+/g, "");
  if (/redirect/i.test(text))
    return { kind: "misconfigured", why: "the reply is a redirect", hint: HINTS.between };
  // Codes and texts of failures before the request left, on Bun and on Deno.
  const early = [
    "ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|connection refused|unreachable",
    "EPROTO|ERR_TLS|CERT|SELF_SIGNED|UNABLE_TO|ERR_PROXY|UnsupportedProxy|dns error",
    "client error \\(connect\\)|failed to lookup|invalid peer certificate",
  ];
  const known = /^[A-Z_]+$/.test(String(code)) ? ` (${code})` : "";
  if (!new RegExp(early.join("|"), "i").test(text))
    return { kind: "unclear", why: `connection lost${known}` };
  const why = `cannot connect${known}`;
  if (!proxy) return { kind: "unsent", why };
  const hint = `check ${proxy}: http://<host>:<port>`;
  return { kind: "unsent", why: `${why} through the proxy in ${proxy}`, hint };
}

/**
 * A pause that still holds: not after the refused settings changed, and not if it was set in the
 * future or ends more than a day ahead, because then the clock was set back.
 */
function pauseIn({ pause }: Channel, now: number, settings: string): Pause | undefined {
  if (!pause || pause.setAt > now || pause.until <= now || pause.until - now > DAY)
    return undefined;
  return (pause.settings ?? settings) === settings ? pause : undefined;
}

/** How long until the same message is tried again, after so many tries; Infinity if it is not. */
function retryDelayMs({ kind, waitMs }: Verdict, tried: number, jitterMs: number): number {
  // Many hosts may share the limit: those refused together must not return together.
  if (waitMs !== undefined) return Math.min(waitMs + jitterMs * 2 ** Math.min(tried, 6), DAY);
  // Seven tries take about a minute; what may have arrived gets three per run.
  const retries = kind === "unsent" ? 6 : kind === "unclear" ? 2 : 0;
  return tried < retries ? 2 ** tried * SECOND + jitterMs : Infinity;
}

/** How long to let a destination rest: as long as it said, else longer than last time. */
function pauseFor(verdict: Verdict, now: number, afterMs: number, settings: string, last?: Pause) {
  const { kind, why, hint, waitMs } = verdict;
  const [exitCode, , firstMs, longestMs = 0]: Ending = VERDICTS[kind];
  if (firstMs === undefined) return undefined;
  const nextMs = Math.min(Math.max(firstMs, (last?.stepMs ?? 0) * 2), longestMs);
  const [stepMs, pauseMs] = waitMs === undefined ? [nextMs, nextMs] : [0, afterMs];
  const pause = { setAt: now, until: now + pauseMs, stepMs, exitCode, why, hint };
  // A refusal holds for its settings only.
  return exitCode === 75 ? pause : { ...pause, settings };
}

/** Of several exit codes the one that a person must act on. */
function worstExit(codes: readonly number[]): number {
  return [70, 73, 78, 69, 66, 64, 75].find((code) => codes.includes(code)) ?? 0;
}

// ── Core: status ────────────────────────────────────────────────────────────────────────────────
// Pure. Reads what fail2ban-client prints, and makes a table of it.

/**
 * The labels in fail2ban-client's tree with their texts. An id may hold line ends: a line that is
 * no branch belongs to the one above it, and of two with one label the first counts.
 */
function labelled(out: string): Partial<Record<string, string>> {
  const branches = out.replace(/\n$/, "").split(/\n(?=[|` ]*[|`]- )/);
  const found = branches.map((branch) => /^[|` ]*[|`]- (.+?):\t([^]*)$/.exec(branch)?.slice(1));
  return Object.fromEntries(found.filter((each) => each !== undefined).toReversed());
}

const wordsOf = (text: string): string[] => text.match(/\S+/g) ?? [];

/** One jail as `status --json` has it; all text in it is clean. */
type JailStatus = NonNullable<ReturnType<typeof readJailStatus>>;

/** Reads `fail2ban-client status <jail>`; absent when it is something else. */
function readJailStatus(jail: string, out: string, ownSecrets: readonly string[]) {
  const tree = labelled(out);
  const count = (label: string) => Number(/^\d{1,15}$/.exec(tree[label] ?? "")?.[0]);
  const counts = {
    currentlyFailed: count("Currently failed"),
    totalFailed: count("Total failed"),
    currentlyBanned: count("Currently banned"),
    totalBanned: count("Total banned"),
  };
  const banned = tree["Banned IP list"];
  if (banned === undefined || Object.values(counts).some(Number.isNaN)) return undefined;
  const clean = (text: string) => cleanText(text, ownSecrets);
  return {
    jail: clean(jail),
    ...counts,
    /** Files, or matches of the journal, as fail2ban lists them. */
    watches: clean(tree["File list"] ?? tree["Journal matches"] ?? ""),
    // A line each, so that an id that looks like a secret hides no other.
    banned: wordsOf(clean(wordsOf(banned).join("\n"))),
  };
}

/** Columns side by side; the first is cut so that a row fits, numbers are aligned to the right. */
function aligned(rows: readonly (readonly string[])[], width: number, gap = 2): string[] {
  // A flag is four code units, as wide as two letters.
  const widthOf = (text = "") => text.replace(/[\u{1f1e6}-\u{1f1ff}]{2}/gu, "DE").length;
  const [first = 0, ...others] = (rows[0] ?? []).map((_, at) =>
    Math.max(...rows.map((row) => widthOf(row[at]))),
  );
  const room = others.reduce((left, column) => left - column - gap, width);
  return rows.map(([name = "", ...cells]) => {
    const numbers = cells.map((cell, at) => " ".repeat(gap) + cell.padStart(others[at] ?? 0));
    const space = " ".repeat(Math.max(0, Math.min(first, room) - widthOf(name)));
    return name + space + numbers.join("");
  });
}

/**
 * A row for each jail with what it watches, where that fits; else that is under it, as the banned
 * are. A phone shows about 40 columns, and 20 words of each list are enough there.
 */
function statusTable(jails: readonly JailStatus[], isMessage: boolean): string {
  const [width, words, letters] = isMessage ? [40, 20, 80] : [80, Infinity, Infinity];
  if (jails.length === 0) return "";
  const rows = jails.map((each) => [
    each.jail,
    `${each.currentlyFailed}/${each.totalFailed}`,
    `${each.currentlyBanned}/${each.totalBanned}`,
  ]);
  const [head = "", ...starts] = aligned([["jail", "failed", "banned"], ...rows], width);
  const isWide = jails.every(({ watches }) => head.length + 2 + watches.length <= width);
  const indented = (list: readonly string[]) => {
    const more = list.length > words ? [`and ${list.length - words} more`] : [];
    const shown = list.slice(0, words).map((word) => shortened(word, letters));
    return filled([...shown, ...more], width - 2).map((line) => `  ${line}`);
  };
  const lines = jails.flatMap(({ watches, banned }, at) =>
    isWide
      ? [`${starts[at]}  ${watches}`, ...indented(banned)]
      : [`${starts[at]}`, ...indented(wordsOf(watches)), ...indented(banned)],
  );
  const table = [isWide ? `${head}  watches` : head, ...lines];
  return table.map((line) => `${line.trimEnd()}\n`).join("");
}

// ── Core: digest ────────────────────────────────────────────────────────────────────────────────
// Pure. Adds up what happened in a period, and sets it in one message.

/** Adds up a period's lines, each by its own date; of some jails, or of all where none is named. */
class Tally extends Counts {
  /** Of the period, as the log writes them. */
  readonly #ends: { readonly since: string; readonly until: string };
  /** The period ended before now; if not, what is later is of a clock that was put back. */
  readonly #isPast: boolean;
  /** Failures and bans, by hour, or by day where the period is long; the oldest first. */
  readonly #chart = new Map<string, { readonly from: string; count: number }>();
  readonly #unit: "hour" | "day";
  /** `2026-11-22 10`, an hour that is wholly in the period, and its bar of the chart. */
  #hour = "";
  #bar = { from: "", count: 0 };
  #isDated = false;
  readonly #lines = { dated: 0, undated: 0 };

  constructor({ since: { sinceMs, untilMs, isPast }, view, ownSecrets }: Settings) {
    super({ ...view, only: new Set() }, ownSecrets);
    this.#ends = { since: stampOf(sinceMs), until: stampOf(untilMs) };
    this.#isPast = isPast;
    this.#unit = untilMs - sinceMs <= 2 * DAY ? "hour" : "day";
    const barMs = this.#unit === "hour" ? HOUR : DAY;
    const last = untilMs - (untilMs % barMs);
    const first = Math.max(sinceMs - (sinceMs % barMs), last - 999 * barMs);
    for (let at = first; at <= last; at += barMs) {
      const bar = this.#barOf(stampOf(at));
      this.#chart.set(bar.from, bar);
    }
  }

  #barOf(stamp: string) {
    const from = this.#unit === "hour" ? `${stamp.slice(0, 13)}:00` : stamp.slice(0, 10);
    return this.#chart.get(from) ?? { from, count: 0 };
  }

  /** Adds lines, each with its line end, in their order. */
  addText(text: string): void {
    const { usualFound } = PREFIXES();
    for (let at = 0; at < text.length;) {
      usualFound.lastIndex = at + 13;
      const usual = this.#hour && text.startsWith(this.#hour, at) ? usualFound.exec(text) : null;
      const end = usual ? usualFound.lastIndex - 1 : text.indexOf("\n", at);
      if (end < 0) return;
      if (!usual) this.#addLine(text.slice(at, end));
      at = end + 1;
      if (!usual) continue;
      const { 1: jail = "", 2: id = "" } = usual;
      this.#isDated = true;
      this.#lines.dated++;
      if (this.context.unbans.size > 0) this.context.unbans.delete(jail);
      if (this.view.jails.size > 0 && !this.view.jails.has(jail)) continue;
      this.#bar.count++;
      this.addFound(jail, id);
    }
  }

  #addLine(line: string): void {
    const record = this.context.read(line);
    if (record) this.#isDated = record.date !== "";
    this.#lines[this.#isDated ? "dated" : "undated"]++;
    if (!record) return;
    const { date, time, event } = record;
    if (!this.#hour || !line.startsWith(this.#hour)) {
      const { since, until } = this.#ends;
      const stamp = `${date} ${time}`;
      if (stamp < since || (this.#isPast && stamp > until)) return;
      // What is later than now is of now: the clock was put back.
      this.#bar = this.#barOf(stamp < until ? stamp : until);
      const hour = stamp.slice(0, 13);
      this.#hour = `${hour}:00:00` >= since ? ownCopy(hour) : "";
    }
    if (!isShown(record, this.view)) return;
    this.add(record);
    if (event === "found" || event === "ban") this.#bar.count++;
  }

  /**
   * What was counted. `notRead`: files that could not be read, or not to their end, with reasons;
   * `known`: the countries of the busiest addresses, `DE`, or `AS64500`.
   */
  digest(notRead: readonly string[], known: Facts["countries"]) {
    const { failedActions, atLeast, banned, jails: counted, ids, ownSecrets } = this;
    const clean = (text: string) => cleanText(text, ownSecrets);
    const jails = Array.from(counted, ([name, { kinds, ids: bannedIds, ...counts }]) => {
      const bannedAddresses = bannedIds.size;
      return { jail: clean(name), ...counts, unbanned: kinds.unban, bannedAddresses };
    });
    const alerts = Array.from(counted.values(), ({ kinds }) => kinds);
    const busiest = this.busiest();
    const addresses = busiest.slice(0, 100).map(({ id, ...counts }) => {
      const country = known.get(id);
      return { address: clean(id), ...counts, ...(country !== undefined && { country }) };
    });
    const active = jails.filter((each) => each.found + each.banned + each.unbanned > 0);
    const shared = addUp(busiest, ({ id }) => networkOf(id)).filter((each) => each.addresses > 1);
    const networks = shared.slice(0, 100);
    const countries = addUp(addresses, ({ country }) => country);
    return {
      ...this.#ends,
      found: sumOf(jails, "found"),
      banned: sumOf(jails, "banned"),
      unbanned: sumOf(jails, "unbanned"),
      bannedAddresses: banned.size,
      failedActions,
      otherAlerts: sumOf(alerts, "alert") - failedActions,
      serverStarts: counted.get("")?.kinds.life ?? 0,
      /** The busiest first, as all lists here. */
      jails: active.sort(busiestFirst),
      /** Different addresses, or other ids, that were found or banned. */
      seenAddresses: atLeast.seenAddresses ? IDS_LIMIT : ids.size,
      addresses,
      networks: networks.map(({ name: network, ...counts }) => ({ network, ...counts })),
      /** Of the addresses above whose country is known. */
      countries: countries.map(({ name: country, ...counts }) => ({ country, ...counts })),
      atLeast,
      /** The oldest first. */
      chart: { unit: this.#unit, bars: [...this.#chart.values()] },
      /** With and without a date, in or out of the period. */
      lines: this.#lines,
      notRead: notRead.map(clean),
    };
  }
}

/** What happened in a period, as `digest --json` has it; all text in it is clean. */
type Digest = ReturnType<Tally["digest"]>;

function sumOf<Key extends string>(counts: readonly Record<Key, number>[], key: Key): number {
  return counts.reduce((sum, count) => sum + count[key], 0);
}

/** The ids of each group as one, the busiest group first; ids of no group are left out. */
function addUp<Each extends Busy>(ids: readonly Each[], groupOf: (id: Each) => string | undefined) {
  const groups = [...Map.groupBy(ids, groupOf)].flatMap(([name, members]) => {
    const [found, banned] = [sumOf(members, "found"), sumOf(members, "banned")];
    return name === undefined ? [] : { name, addresses: members.length, found, banned };
  });
  return groups.sort(busiestFirst);
}

/** The /24 or /64 that an address is in; absent for any other id. */
function networkOf(id: string): string | undefined {
  const version = process.getBuiltinModule("node:net").isIP(id);
  if (version === 4) return id.replace(/\d+$/, "0/24");
  if (version !== 6) return undefined;
  const [before = [], behind = []] = id.split("::").map((part) => part.match(/[^:]+/g) ?? []);
  const zeros = Array<string>(Math.max(0, 8 - before.length - behind.length)).fill("0");
  const groups = [...before, ...zeros, ...behind].slice(0, 4).join(":");
  return `${groups.replace(/(?:(?:^|:)0)+$/, "")}::/64`;
}

// The message: made for a phone, which shows about 40 columns.

/** Jails, addresses, networks and countries, each a table of as many rows as there is room for. */
function digestTables(digest: Digest, rows: number): string[][] {
  const { jails, addresses, networks, countries, seenAddresses, atLeast } = digest;
  const table = <Each>(all: readonly Each[], head: string[], cells: (each: Each) => unknown[]) => {
    const body = all.map((each) => cells(each).map(String));
    return all.length > 0 ? aligned([head, ...body], Infinity, 1) : [];
  };
  const all = jails.length > 1 ? [{ ...digest, jail: "all jails" }] : [];
  const first = [...jails.slice(0, rows), ...all];
  const byJail = table(first, ["jail", "found", "bans (IPs)", "unbans"], (each) => {
    const ips = (atLeast.bannedAddresses ? "≥" : "") + each.bannedAddresses;
    return [shortened(each.jail, 20), each.found, `${each.banned} (${ips})`, each.unbanned];
  });
  if (jails.length > rows) byJail.splice(-1, 0, `and ${jails.length - rows} more`);
  const top = addresses.slice(0, Math.ceil(rows / 2));
  const byAddress = table(top, ["top addresses", "found", "bans"], (each) => {
    const country = each.country ? ` ${countryText(each.country)}` : "";
    return [shortened(each.address, 39) + country, each.found, each.banned];
  });
  const hidden = `${atLeast.seenAddresses ? "at least " : ""}${seenAddresses - top.length}`;
  if (top.length > 0 && seenAddresses > top.length) byAddress.push(`and ${hidden} more`);
  const few = Math.ceil(rows / 4);
  const looked = seenAddresses > LOOKUPS_PER_MESSAGE ? ` of top ${LOOKUPS_PER_MESSAGE}` : "";
  return [
    byJail,
    byAddress,
    table(networks.slice(0, few), ["top networks (IPs)", "found", "bans"], (each) => {
      return [`${each.network} (${each.addresses})`, each.found, each.banned];
    }),
    table(countries.slice(0, few), [`countries${looked} (IPs)`, "found", "bans"], (each) => {
      return [`${countryText(each.country)} (${each.addresses})`, each.found, each.banned];
    }),
  ];
}

/** The message without its title, each line with its end; as many rows as `fits` lets pass. */
function digestText(digest: Digest, fits: (text: string) => boolean): string {
  const { lines, notRead, failedActions, otherAlerts, serverStarts } = digest;
  const { unit, bars } = digest.chart;
  const alerts = Object.entries({
    "failed actions": failedActions,
    "other alerts": otherAlerts,
    "server starts": serverStarts,
  }).flatMap(([name, count]) => (count > 0 ? `${name}: ${count}` : []));
  // A row for each day with a column for each hour, or for each month with a column for each day.
  const [letters, hidden, first, axis] =
    unit === "hour"
      ? [10, 5, 0, "      0     6     12    18"]
      : [7, 0, 1, "        1      8      15     22     29"];
  const groups = [...Map.groupBy(bars, ({ from }) => from.slice(0, letters))];
  const busy = groups.findIndex(([, group]) => group.some(({ count }) => count > 0));
  const shown = groups.slice(unit === "hour" ? 0 : busy).slice(-4);
  const most = Math.max(...shown.flatMap(([, group]) => group.map(({ count }) => count)));
  const rows = shown.map(([name, group]) => {
    const cells = Array<string>(32).fill(" ");
    for (const { from, count } of group) {
      const bar = "▁▂▃▄▅▆▇█"[Math.ceil((count / most) * 8) - 1];
      cells[Number(from.slice(letters + 1, letters + 3))] = bar ?? "·";
    }
    return `${name.slice(hidden)} ${cells.slice(first).join("").trimEnd()}`;
  });
  const head = `failed attempts and bans per ${unit}, █ = ${most}`;
  const notes: string[] = [];
  if (lines.undated > lines.dated)
    notes.push(`${lines.undated} lines have no date: they are not counted`);
  if (notRead.length > 0) notes.push(`not read: ${fitting(notRead, 70)}`);
  for (let rowsOfTables = 12; ; rowsOfTables--) {
    const [jails = [], ...busiest] = digestTables(digest, rowsOfTables);
    const sections = [jails, alerts, most > 0 ? [head, axis, ...rows] : [], ...busiest, notes];
    const shownSections = sections.filter(({ length }) => length > 0);
    const texts = shownSections.map((section) => `${section.join("\n")}\n`);
    const text = texts.join("\n");
    if (rowsOfTables === 0 || fits(text)) return text;
  }
}

// ── World: machine ──────────────────────────────────────────────────────────────────────────────
// All effects go through one `World`: tests hand in their own.

/** Everything outside the program. */
export type World = Readonly<ReturnType<typeof realWorld>>;

/** Runs other programs, without our secrets, and with sbin, which cron's PATH lacks. */
function programs() {
  const options = (timeout: number) => {
    const services = SERVICES.map(({ name }) => name.toUpperCase()).join("|");
    const ours = new RegExp(`^(?:F2B|${services})_`);
    const theirs = Object.entries(process.env).filter(([name]) => !ours.test(name));
    const paths = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    const PATH = process.env["PATH"] ? `${process.env["PATH"]}:${paths}` : paths;
    const env = { ...Object.fromEntries(theirs), PATH };
    return { env, timeout, killSignal: "SIGKILL" } as const;
  };
  type Ran =
    { kind: "ended"; code: number; out: string; err: string } | { kind: "missing" | "timedOut" };
  return {
    runProgram(program: string, args: readonly string[], timeoutMs = 20 * SECOND) {
      const { execFile } = process.getBuiltinModule("node:child_process");
      const limits = { ...options(timeoutMs), maxBuffer: 16 * 1024 * 1024 };
      return new Promise<Ran>((done, failed) => {
        execFile(program, args, limits, (error, out, err) => {
          if (!error) done({ kind: "ended", code: 0, out, err });
          else if (error.code === "ENOENT") done({ kind: "missing" });
          else if (error.killed) done({ kind: "timedOut" });
          else if (isDenied(error)) failed(error);
          else done({ kind: "ended", code: Number(error.code) || -1, out, err });
        });
      });
    },
    /** What a program unpacks; throws where it is missing or fails. */
    async *streamProgram(program: string, input: Iterable<Uint8Array>): AsyncGenerator<Uint8Array> {
      const { spawn } = process.getBuiltinModule("node:child_process");
      const { Readable, pipeline } = process.getBuiltinModule("node:stream");
      const child = spawn(program, ["-dc"], {
        ...options(2 * MINUTE),
        stdio: ["pipe", "pipe", "ignore"],
      });
      const ended = new Promise((done, failed) => child.once("error", failed).once("close", done));
      ended.catch(() => undefined);
      if (child.pid === undefined) await ended;
      pipeline(Readable.from(input), child.stdin, () => undefined);
      try {
        yield* child.stdout;
        if ((await ended) !== 0) throw new Error(`${program} failed`);
      } finally {
        child.kill("SIGKILL");
      }
    },
  };
}

/** The runtime's own `fetch`, without what Bun and Deno do on top of a request. */
function carefulFetch() {
  const reached = new Set<string>();
  return async (url: string, init: RequestInit): Promise<Response> => {
    const { host } = new URL(url);
    const { body } = init;
    // When a kept connection dies, Deno posts again by itself, but not a stream; and with a stream
    // it does not end where it may not connect.
    const asStream = body instanceof ArrayBuffer &&
      reached.has(host) && { body: new Blob([body]).stream(), duplex: "half" as const };
    // Bun fails where an answer says that it is compressed and is not.
    const response = await fetch(url, { ...init, ...asStream, ...{ decompress: false } });
    reached.add(host);
    return response;
  };
}

/** The machine that the program runs on. */
export function realWorld() {
  const stop = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => stop.abort());
  const compiled = process.argv[1]?.startsWith("/$bunfs/") === true;
  // Deno may not be allowed to look at it.
  const nowhere = ifPossible(() => fs.statSync("/dev/null").rdev);
  const isNowhere = (descriptor: number) =>
    (ifPossible(() => fs.fstatSync(descriptor).rdev) ?? nowhere) === nowhere;
  let heard = !isNowhere(2);
  const isDevice = heard && fs.fstatSync(2).isCharacterDevice();
  let printed = new Uint8Array(0);
  return {
    env: process.env as Record<string, string | undefined>,
    fs,
    /** Where progress is kept unless another place is set. */
    stateHome: compiled ? "/var/lib/f2b-watch" : resolve(import.meta.dirname ?? ".", "state"),
    /** Somebody may read what is written to stderr: it is not /dev/null, and takes what comes. */
    get heard() {
      return heard;
    },
    // A module takes a while to load, and cron's mail or a file is no terminal.
    terminal: isDevice && process.getBuiltinModule("node:tty").isatty(2),
    stopping: stop.signal,
    now: Date.now,
    random: Math.random,
    uid: () => process.getuid?.() ?? 0,
    gid: () => process.getgid?.() ?? 0,
    timeout: (ms: number) => AbortSignal.timeout(ms),
    fetch: carefulFetch(),
    hostName: () => process.getBuiltinModule("node:os").hostname(),
    ...programs(),
    /** To stdout; one text after the other. */
    async writeOut(text: string | Uint8Array): Promise<void> {
      // Where stdout was closed /dev/null is open: by Bun to close on exec, by Deno to read, too.
      const info = ifPossible(() =>
        printed.length === 0 && isNowhere(1) ? fs.readFileSync("/proc/self/fdinfo/1", "utf8") : "",
      );
      const opened = process.versions["bun"] ? /^flags:\s+\d*[2367]\d{6}$/m : /^flags:.*2$/m;
      if (opened.test(info ?? "")) throw new Error("EBADF: it is closed, write");
      // The same memory for all, three bytes a character: fresh one costs a tenth of a dry run.
      let bytes = text;
      if (typeof bytes === "string") {
        if (printed.length < 3 * bytes.length) printed = new Uint8Array(3 * bytes.length);
        bytes = printed.subarray(0, encoder.encodeInto(bytes, printed).written);
      }
      for (let done = 0; done < bytes.length;) {
        try {
          done += fs.writeSync(1, bytes, done);
        } catch (error) {
          // The reader is slow.
          if (errorCode(error) !== "EAGAIN") throw error;
          await new Promise((wake) => setTimeout(wake, 5));
        }
      }
    },
    // Where that fails, the exit status must do.
    writeError: (text: string): void => {
      if (ifPossible(() => fs.writeSync(2, text)) === undefined) heard = false;
    },
    /** Ends early when the run is asked to stop. */
    sleep(ms: number): Promise<void> {
      const timers = process.getBuiltinModule("node:timers/promises");
      // Only to let signals in: a timer takes a millisecond at least.
      if (ms <= 0) return timers.setImmediate();
      return timers.setTimeout(ms, undefined, { signal: stop.signal }).catch(() => undefined);
    },
  };
}

// ── World: files ────────────────────────────────────────────────────────────────────────────────
// Every file is opened once and read by its descriptor, so that a rotation between two steps moves
// names and never contents. Siblings are opened without following links.

function withReason({ name, why = "" }: Pick<OpenFile, "name" | "why">): string {
  return `${name} (${why})`;
}

/** The system's own: what the runtime refuses, as by `ERR_INVALID_ARG_TYPE`, is a bug of ours. */
function errorCode(error: unknown): string | undefined {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  return typeof code === "string" && /^E(?!RR_)/.test(code) ? code : undefined;
}

/** `permission denied` out of `EACCES: permission denied, open '…'`; a bug of ours is thrown on. */
function reason(error: unknown): string {
  const isBug = error instanceof TypeError || error instanceof RangeError;
  if (isBug && !errorCode(error)) throw error;
  const message = error instanceof Error ? error.message : "unknown error";
  return /^[A-Z0-9]+: ([^,]+)/.exec(message)?.[1] ?? message;
}

/** The result of something that may fail; absent where it does. */
function ifPossible<Result>(work: () => Result): Result | undefined {
  try {
    return work();
  } catch {
    return undefined;
  }
}

/** Deno's way of saying that it was not allowed to. */
function isDenied(error: unknown): boolean {
  return error instanceof Error && error.name === "NotCapable";
}

/**
 * The result, or the fault that replaces an error, as a person can read it; a system error gets
 * this exit code. Deno says itself which permission it wants.
 */
async function faultOr<Result>(exitCode: number, work: () => Result | Promise<Result>) {
  try {
    return await work();
  } catch (error) {
    const { message } = error instanceof Error ? error : new Error("unknown error");
    const denied = /Requires (\w+) access to "([^"]+?)(?:\/[^/]+\.try\d+)?"/.exec(message);
    if (denied) {
      const [, kind, what] = denied;
      const hint = `deno run … --allow-${kind}=${what}`;
      return new (kind === "run" ? Closed : Fault)(78, `Deno denies ${kind} access`, hint);
    }
    if (error instanceof Fault) return error;
    const code = errorCode(error);
    if (!code) {
      const hint = `report it: ${HOMEPAGE.replace("https://", "")}/issues`;
      return new Fault(70, `a bug in f2b-watch ${VERSION}: ${message}`, hint);
    }
    const isClosed = /^E(?:ACCES|PERM)$/.test(code);
    const hint = isClosed ? "run as root" : "make sure that it exists, or choose another one";
    return new Fault(exitCode, `no access: ${reason(error)}`, hint);
  }
}

/** A descriptor that is closed at the end of the block that is `using` it. */
function closing(world: World, descriptor: number) {
  return { descriptor, [Symbol.dispose]: () => world.fs.closeSync(descriptor) };
}

type Distrust = (stat: fs.Stats) => string | undefined;
/** Opens a regular file for reading, unless it is distrusted; a FIFO or device does not block. */
function openRegular(world: World, path: string, distrust: Distrust, flags = 0) {
  const descriptor = world.fs.openSync(path, fs.constants.O_NONBLOCK | flags);
  const stat = world.fs.fstatSync(descriptor);
  const problem = stat.isFile() ? distrust(stat) : "it is not a regular file";
  if (!problem) return { stat, ...closing(world, descriptor) };
  world.fs.closeSync(descriptor);
  throw new Error(problem);
}

function inodeOf(stat: fs.Stats): string {
  return `${stat.dev}:${stat.ino}`;
}

function reportKeyOf(name: string, stat: fs.Stats): string {
  return `${name} ${inodeOf(stat)} ${stat.size}`;
}

/** As fast as up to 16 MiB when the page cache is warm, and small in memory. */
const PAGE_BYTES = 64 * 1024;
/** How far into a file its first time, or the start of a line, is looked for. */
const SEARCH_BYTES = 32 * 1024;

/** Stands for the files of a folder that could not be listed. */
const UNLISTED = "unlisted";

/** A file as it was opened, with what its name says; if unpacked, with the `key` of the packed. */
type Opened = Pick<OpenFile, "name" | "descriptor" | "stat"> &
  Partial<Pick<OpenFile, "isLive" | "number" | "isRotated" | "size" | "key" | "why">>;

/** A log or a sibling as it was when opened: what is written later belongs to the next run. */
class OpenFile {
  readonly name: string;
  readonly isLive: boolean;
  readonly number: number | undefined;
  readonly isRotated: boolean | undefined;
  readonly descriptor: number;
  readonly stat: fs.Stats;
  readonly size: number;
  /** In whole milliseconds: Deno, which may continue with Bun's state, knows no parts. */
  readonly writtenMs: number;
  /** The first bytes: a file may be truncated while it is read. */
  readonly head: Uint8Array;
  /** Identifies a compressed file's contents. */
  readonly key: string | undefined;
  /** Why a compressed file could not be unpacked to its end. */
  readonly why: string | undefined;
  readonly #world: World;
  #firstTime: string | undefined;
  #lastTime: string | undefined;
  #end: Cursor | undefined;

  constructor(world: World, { name, descriptor, stat, ...rest }: Opened) {
    this.#world = world;
    [this.name, this.descriptor, this.stat] = [name, descriptor, stat];
    this.isLive = rest.isLive ?? false;
    [this.number, this.isRotated] = [rest.number, rest.isRotated];
    this.size = rest.size ?? stat.size;
    this.writtenMs = Math.floor(stat.mtimeMs);
    this.head = this.fill(0, Buffer.alloc(Math.min(this.size, HEAD_BYTES)));
    [this.key, this.why] = [rest.key, rest.why];
    if (this.isLive || this.key || !packingOf(this.head)) return;
    // Compressed files end in a checksum of all they hold.
    const tail = this.readBefore(this.size, 64);
    this.key = `${this.size}:${fingerprint(this.head)}:${fingerprint(tail)}`;
  }

  close(): void {
    this.#world.fs.closeSync(this.descriptor);
  }
  readonly [Symbol.dispose] = this.close;

  /** Fills `bytes` from `position` on, as far as the file goes. */
  fill(position: number, bytes: Uint8Array): Uint8Array {
    let filled = 0;
    try {
      while (filled < bytes.length) {
        const [left, at] = [bytes.length - filled, position + filled];
        const count = this.#world.fs.readSync(this.descriptor, bytes, filled, left, at);
        if (count === 0) break;
        filled += count;
      }
    } catch (error) {
      throw new Fault(66, `cannot read the log: ${reason(error)}`);
    }
    return bytes.subarray(0, filled);
  }

  /** Reads `length` bytes, or up to the size that the file had when it was opened. */
  read(position: number, length: number): Uint8Array {
    const bytes = Buffer.allocUnsafe(Math.max(0, Math.min(length, this.size - position)));
    return this.fill(position, bytes);
  }

  /** Reads the last `most` bytes before `end`. */
  readBefore(end: number, most: number): Uint8Array {
    const start = Math.max(0, end - most);
    return this.read(start, end - start);
  }

  /** The time of its first record. */
  get firstTime(): string {
    return (this.#firstTime ??= lineTime(this.head) || firstTimeIn(this.read(0, SEARCH_BYTES)));
  }

  /** Behind its last line. Kept: it is compared with every file's. */
  get end(): Cursor {
    return (this.#end ??= this.cursorAt(this.isLive ? this.lastLineEnd() : this.size, 0));
  }

  get lastTime(): string {
    // Behind what a cut left of a line stands a younger one.
    const timeOf = (line: Uint8Array) => gluedTime(line) || lineTime(line);
    const times = () => linesBack(this.readBefore(this.size, ANCHOR_TAIL_BYTES)).map(timeOf);
    return (this.#lastTime ??= times().find((time) => time !== "") ?? "");
  }

  /** A hint only: a file that was emptied keeps it. */
  get identity(): string {
    return `${inodeOf(this.stat)}:${Math.floor(this.stat.birthtimeMs)}`;
  }

  /** Block by block; each block takes the place of the one before it. */
  *blocks(from = 0, to = this.size): Generator<Uint8Array> {
    const block = Buffer.allocUnsafe(PAGE_BYTES);
    for (let position = from; position < to; position += PAGE_BYTES)
      yield this.fill(position, block.subarray(0, Math.min(PAGE_BYTES, to - position)));
  }

  /**
   * Every line behind `from`, at most its last 4 KiB, and where it begins and ends; a partial last
   * one if asked for, and of a rotated file.
   */
  *lines(from = 0, withPartial = !this.isLive) {
    let [start, position] = [from, from];
    for (const block of this.blocks(from)) {
      for (let at = block.indexOf(NEWLINE); at >= 0; at = block.indexOf(NEWLINE, at + 1)) {
        const end = position + at + 1;
        const near = Math.max(start, end - ANCHOR_LINE_BYTES);
        const line =
          near < position ? this.read(near, end - near) : block.subarray(near - position, at + 1);
        yield { line, start, end };
        start = end;
      }
      position += block.length;
    }
    const near = Math.max(start, this.size - ANCHOR_LINE_BYTES);
    if (withPartial && start < this.size)
      yield { line: this.read(near, this.size - near), start, end: this.size };
  }

  countLines(from: number, to: number): number {
    let lines = 0;
    for (const block of this.blocks(from, to))
      for (let at = block.indexOf(NEWLINE); at >= 0; at = block.indexOf(NEWLINE, at + 1)) lines++;
    return lines;
  }

  /** The offset after the last whole line; 0 when there is none. */
  lastLineEnd(): number {
    for (let end = this.size; end > 0; end -= PAGE_BYTES) {
      const found = this.readBefore(end, PAGE_BYTES).lastIndexOf(NEWLINE);
      if (found >= 0) return Math.max(0, end - PAGE_BYTES) + found + 1;
    }
    return 0;
  }

  /** What proves that a reader stood at `offset`; `before`: the bytes up to there. */
  anchorAt(offset: number, before = this.readBefore(offset, ANCHOR_LINE_BYTES + 1)): Anchor {
    // Nothing was read of a file that is known by its first line, or the first of a long one.
    const length = offset || this.head.indexOf(NEWLINE) + 1 || this.head.length;
    const headHash = [fingerprint(this.head.subarray(0, length))];
    return { offset, lastLineHash: fingerprint(lastLine(before)), headHash };
  }

  matches(anchor: Anchor): boolean {
    return anchor.offset <= this.size && sameAnchor(this.anchorAt(anchor.offset), anchor);
  }

  /**
   * An anchor with what it takes to be searched for. `total`: lines ever read; `trail`: the lines
   * that were known before; of the bytes `before` it at most 32 KiB count.
   */
  cursorAt(
    offset: number,
    lines: number,
    total = lines,
    trail: Cursor["trail"] = [],
    before = this.readBefore(offset, ANCHOR_TAIL_BYTES),
  ): Cursor {
    const near = before.subarray(-ANCHOR_TAIL_BYTES);
    const rows = [...linesBack(near)];
    const isCutOff = near.length < offset && (rows.at(-1)?.length ?? 0) < ANCHOR_LINE_BYTES;
    if (isCutOff) rows.pop();
    // Of the last eight lines each, of older ones four of each doubling of the distance.
    const isKept = (at: number) => at % 2 ** Math.floor(Math.log2((total - at) / 8 + 1)) === 0;
    const known = rows.flatMap((row, index): [number, string, string][] => {
      const at = total - index;
      return isKept(at)
        ? [[at, markOf(rows.slice(index, index + MARKED_LINES)), lineTime(row)]]
        : [];
    });
    const marks = new Set(known.map(([, mark]) => mark));
    const older = trail.filter(([at, mark]) => isKept(at) && !marks.has(mark));
    const lastDated = rows.find((row) => lineTime(row) !== "");
    const lastTime = lastDated && lineTime(lastDated);
    const began = this.firstTime;
    return { ...this.anchorAt(offset, near), lines, began, lastTime, trail: [...known, ...older] };
  }

  /** Whether another of the files, the oldest first, begins with all of it: it is a backup copy. */
  isCopyIn(files: readonly OpenFile[]): boolean {
    if (this.isLive || this.size === 0) return false;
    const [end, age] = [this.anchorAt(this.size), files.indexOf(this)];
    const isLater = (other: OpenFile, at: number) => at > age || other.size > this.size;
    return files.some((other, at) => isLater(other, at) && other.matches(end));
  }

  /** Asked of its beginning: what follows may not be readable. */
  hasLine(): boolean {
    return !this.lines().next().done;
  }

  /** Where reading resumes behind `end`: in a line that has grown since, at its beginning. */
  resumeAt(end: number): number {
    const before = this.readBefore(end, ANCHOR_LINE_BYTES);
    const begun = end === this.size ? 0 : before.length - before.lastIndexOf(NEWLINE) - 1;
    // A longer line is read in pieces.
    return begun < ANCHOR_LINE_BYTES ? end - begun : end;
  }

  /** Whether an earlier run could not read it, under whatever name, or not list its folder. */
  wasLeftOut({ known = [] }: Progress): boolean {
    const key = reportKeyOf("", this.stat);
    return known.some((each) => each === UNLISTED || each.endsWith(key));
  }

  /** Where an earlier reader left it. */
  finishedAt({ cursor, finished, known = [] }: Progress): number {
    const isDone = this.key !== undefined && known.includes(this.key);
    if (isDone && !(cursor && this.matches(cursor))) return this.size;
    const endsIn = (some: readonly Anchor[]) =>
      some.filter((anchor) => this.matches(anchor)).map(({ offset }) => offset);
    // Most files are done, and of hundreds each would be looked for in vain among all ends.
    const whole = endsIn(finished.filter(({ offset }) => offset === this.size));
    return whole[0] ?? this.resumeAt(Math.max(0, ...endsIn(finished)));
  }

  /** Where an older file's last line ends in it, since one of them was copied or trimmed; or 0. */
  overlap(older: OpenFile): number {
    if (older.lastTime && this.firstTime > older.lastTime) return 0;
    const { end } = this;
    // Cut short, or put back, beside a copy that holds all of it.
    if (end.offset > 0 && older.matches(end)) return end.offset;
    const found = this.#find(older.end);
    return found?.isProven ? found.end : 0;
  }

  /** Whether it has all of a file whose last line ends at `end`, behind other lines. */
  holds({ size, head }: OpenFile, end: number): boolean {
    return end > size && Buffer.compare(this.read(end - size, head.length), head) === 0;
  }

  /**
   * Where the last line that is known to be sent ends, and what shows it: the proof at the cursor's
   * offset, the last line elsewhere, lines behind which there are no others, or less.
   */
  found(progress: Progress, isElsewhere: boolean) {
    const { cursor, part } = progress;
    if (!cursor) return undefined;
    if (this.matches(cursor)) {
      const offset = part ? cursor.offset : this.resumeAt(cursor.offset);
      return { offset, end: offset, isProven: true, by: "position" as const };
    }
    // To look for lines takes a while: not where it changes nothing.
    const isDone = isElsewhere && this.finishedAt(progress) >= this.size;
    return isDone ? undefined : this.#find(cursor);
  }

  /**
   * Where the last line that was sent ends, by the lines that a cursor knows, the newest first:
   *   sent       a b c d e    of these the trail knows e, d, c and a
   *   file now   a b d x n    e was deleted, x put in, n is new
   * The newest known line is d, which ends at `known`. If x has a time not after e's, it counts as
   * sent: `offset` is behind x. Where the newest one is e itself, all behind it is new.
   */
  #find(cursor: Cursor) {
    const { lastTime = "", trail = [] } = cursor;
    const isOlder = (time: string) => time !== "" && time < this.firstTime;
    // What begins later than lines were written does not hold them.
    const isYounger = isOlder(lastTime) && trail.every(([, , time]) => isOlder(time));
    const newest = isYounger ? undefined : this.#newestKnown(cursor);
    if (!newest) return undefined;
    const { rank, end, isProven } = newest;
    if (rank === 0) return { offset: end, end, isProven, by: "last line" as const };
    const offset = this.#endOfOld(end, lastTime);
    if (offset === 0) return undefined;
    return { offset, end, isProven, by: "lines" as const };
  }

  /**
   * The line of the lowest `rank` in the trail, 0 being the last one that was sent; the beginning
   * of the same file counts as one behind the trail. As another file may begin like this one, what
   * proves it is a second known line near the end of the trail, or that no line follows.
   */
  #newestKnown({ began = "", trail = [] }: Cursor) {
    const ranks = new Map(trail.map(([, mark], rank) => [mark, rank] as const).toReversed());
    ranks.delete("");
    const isSameFile = began !== "" && began === this.firstTime;
    let [rank, knownEnd, equal] = [isSameFile ? trail.length + 1 : Infinity, 0, 0];
    let [hits, last] = [0, 0];
    let recent: Uint8Array[] = [];
    for (const { line, start, end } of this.lines()) {
      recent = [Buffer.from(line), ...recent.slice(0, MARKED_LINES - 1)];
      const mark = markOf(recent);
      const found = ranks.get(mark) ?? Infinity;
      if (found < Infinity) hits++;
      // Of equal lines in a row as many are known as the trail has.
      const isNext = found === rank && start === knownEnd && trail[rank + equal]?.[1] === mark;
      if (found < rank || isNext) [rank, knownEnd, equal] = [found, end, isNext ? equal + 1 : 1];
      last = end;
    }
    const isProven = rank === 0 || knownEnd === last || (hits > 1 && rank < 8);
    return rank < Infinity ? { rank, end: knownEnd, isProven } : undefined;
  }

  /**
   * Where the lines end that follow from `from` on and were written no later than `lastTime`, nor
   * earlier than the line before them: then the clock was put back.
   */
  #endOfOld(from: number, lastTime: string): number {
    const firstTime = lineTime(lastLine(this.readBefore(from, ANCHOR_LINE_BYTES)));
    // A line without a time is as old as the one above it.
    let [offset, isOld] = [from, from > 0];
    for (const { start, end } of this.lines(from, true)) {
      const isPartial = end > this.end.offset;
      const line = this.read(start, Math.min(end - start, PAGE_BYTES));
      const time = lineTime(line);
      if (time || isPartial) isOld = time !== "" && time >= firstTime && time <= lastTime;
      if (!isOld || gluedTime(line) !== "") return offset;
      offset = end;
      if (!isPartial) continue;
      // What a cut left of the last line; what may begin a time may be the beginning of a new one.
      let begun = latin1(this.readBefore(end, 23)).replace(/\d/g, "0");
      while (!"0000-00-00 00:00:00,000".startsWith(begun)) begun = begun.slice(1);
      offset -= begun.length;
    }
    return offset;
  }
}

/** Where the first line begins that begins at or after `position`. */
function lineStartAfter(file: OpenFile, position: number): number {
  for (let at = position - 1; at < file.size; at += SEARCH_BYTES) {
    const end = at < 0 ? 0 : file.read(at, SEARCH_BYTES).indexOf(NEWLINE) + 1;
    if (at < 0 || end > 0) return at < 0 ? 0 : at + end;
  }
  return file.size;
}

/** Opens the log itself, which may be a link; absent when it is not there. */
function openLive(world: World, path: string, isFound = false): OpenFile | undefined {
  try {
    const { descriptor, stat } = openRegular(world, path, ({ uid }) => {
      const link = world.fs.lstatSync(path, { throwIfNoEntry: false });
      const makers = isFound ? [] : [0, world.uid(), uid];
      const isTrusted = !link?.isSymbolicLink() || makers.includes(link.uid);
      return isTrusted ? undefined : "it is a link that another user may have made";
    });
    return new OpenFile(world, { name: basename(path), isLive: true, descriptor, stat });
  } catch (error) {
    const code = errorCode(error);
    if (code === "ENOENT") return undefined;
    const hint = code === "EACCES" ? "run as root, or as a member of the log's group" : LOG_HINT;
    throw new Fault(66, `cannot read ${path}: ${reason(error)}`, hint);
  }
}

/** Where the rotated files are: beside the log, or beside what it links to. */
function rotationPath(world: World, log: string): string {
  return ifPossible(() => world.fs.realpathSync(log)) ?? log;
}

/**
 * The files beside the log that may be rotated forms of it; while one is being compressed, its
 * compressed form does not count. `snapshot` changes when one is rotated, written, replaced or
 * opened to us.
 */
function listSiblings(world: World, log: string) {
  const path = rotationPath(world, log);
  const [target, link] = [basename(path), basename(log)];
  const present = world.fs.readdirSync(dirname(path)).sort();
  const found = present.flatMap((name) => {
    let sibling = siblingName(target, name);
    // A link may have a name of its own for ever, and what it links to one of today.
    if (link !== target && name !== target) sibling ??= siblingName(link, name);
    if (!sibling) return [];
    const at = resolve(dirname(path), name);
    const stat = world.fs.lstatSync(at, { throwIfNoEntry: false });
    if (!stat) return [];
    const [inode, writtenMs] = [inodeOf(stat), Math.floor(stat.mtimeMs)];
    const reportKey = reportKeyOf(name, stat);
    const mark = [reportKey, writtenMs, stat.uid, stat.gid, stat.mode].join(" ");
    return { ...sibling, name, path: at, inode, writtenMs, reportKey, mark };
  });
  const plain = new Map(found.map(({ name, writtenMs }) => [name, writtenMs]));
  const plainMs = (name: string) =>
    PACKED_NAME.test(name) ? plain.get(name.replace(PACKED_NAME, "")) : undefined;
  const files = found.filter(({ name, writtenMs }) => writtenMs < (plainMs(name) ?? Infinity));
  const own = files.filter(({ isStranger }) => !isStranger);
  return { files, snapshot: fingerprint(own.map(({ mark }) => mark).join("\n")) };
}

/** Creates a file of ours (`O_EXCL`: anew), or opens it: for our eyes only, never through a link. */
function openPrivate(world: World, path: string, flags: number) {
  // A FIFO under this name must not keep us waiting for its reader.
  const { O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK } = fs.constants;
  if ((flags & O_EXCL) !== 0) world.fs.rmSync(path, { force: true });
  const descriptor = world.fs.openSync(path, flags | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0o600);
  // What root writes into a service's state stays the service's.
  const { uid, gid } = world.fs.statSync(dirname(path));
  if (world.uid() === 0 && uid !== 0) world.fs.fchownSync(descriptor, uid, gid);
  return closing(world, descriptor);
}

/** Writes to a private file, made if it is missing, and makes sure that it is on disk. */
function writePrivate(world: World, path: string, flags: number, text: string): void {
  writing(path, () => {
    using file = openPrivate(world, path, flags | fs.constants.O_WRONLY);
    if (text === "") return;
    world.fs.writeFileSync(file.descriptor, text);
    world.fs.fsyncSync(file.descriptor);
  });
}

/** Whether no frame is cut off, which its decoder takes for the end; as RFC 8878 says. */
function isWholeZstd(packed: OpenFile): boolean {
  let at = 0;
  while (at < packed.size) {
    const head = Buffer.from([...packed.read(at, 8), ...new Uint8Array(8)]);
    const flags = head[4] ?? 0;
    if (head.readUInt32LE() >>> 4 === 0x184d2a5) {
      at += 8 + head.readUInt32LE(4);
      continue;
    }
    const isSingle = (flags >> 5) & 1;
    at += 6 - isSingle + ([0, 1, 2, 4][flags & 3] ?? 0) + ([isSingle, 2, 4, 8][flags >> 6] ?? 0);
    for (let isLast = false; !isLast;) {
      const [low = 0, middle = 0, high = 0] = packed.read(at, 3);
      const [type, length] = [(low >> 1) & 3, (high << 13) | (middle << 5) | (low >> 3)];
      isLast = (low & 1) === 1 || at >= packed.size;
      at += 3 + (type === 1 ? 1 : length);
    }
    at += flags & 4;
  }
  return at === packed.size;
}

/** What a compressed file unpacks to, by Node or by the program that made it; else says why not. */
async function* unpackedChunks(world: World, packed: OpenFile): AsyncGenerator<Uint8Array> {
  const program = packingOf(packed.head) ?? "";
  // In blocks so small that even a bomb's blocks unpack to some MiB each.
  const blocks = function* (length = 8 * 1024) {
    for (let at = 0; at < packed.size; at += length) yield packed.read(at, length);
  };
  const zlib = process.getBuiltinModule("node:zlib");
  const { Readable, pipeline } = process.getBuiltinModule("node:stream");
  const decoders = { gzip: zlib.createGunzip, zstd: zlib.createZstdDecompress };
  try {
    if (program === "gzip" || program === "zstd")
      yield* pipeline(Readable.from(blocks()), decoders[program](), () => undefined);
    else yield* world.streamProgram(program, blocks());
    if (program === "zstd" && !isWholeZstd(packed)) throw new Error("cut off");
  } catch (error) {
    if (error instanceof Fault) throw error;
    throw new Error(errorCode(error) === "ENOENT" ? `${program} is not installed` : "damaged");
  }
}

/**
 * Unpacks a compressed sibling, as far as it can be, into a file without a name, and closes it.
 * A log may take half of the free disk; what does not begin like one is a bomb beyond 64 MiB.
 */
async function unpack(world: World, packed: OpenFile, scratchPath: string): Promise<OpenFile> {
  using _packed = packed;
  const { descriptor } = writing(scratchPath, () => {
    const opened = openPrivate(world, scratchPath, fs.constants.O_RDWR | fs.constants.O_EXCL);
    world.fs.unlinkSync(scratchPath);
    return opened;
  });
  const disk = ifPossible(() => world.fs.statfsSync(dirname(scratchPath)));
  const limit = disk ? (disk.bavail * disk.bsize) / 2 : Infinity;
  let [size, isLog, why] = [0, false, ""];
  try {
    for await (const chunk of unpackedChunks(world, packed)) {
      if (size < SEARCH_BYTES) isLog ||= firstTimeIn(chunk) !== "";
      writing(scratchPath, () => world.fs.writeFileSync(descriptor, chunk));
      size += chunk.length;
      if (size > (isLog ? limit : 64 * 1024 * 1024)) throw new Error("too large unpacked");
      if (world.stopping.aborted) throw new Fault(75, "stopped before it was done");
    }
  } catch (error) {
    why = reason(error);
    // Of what is damaged its beginning may be read.
    if (size === 0 || error instanceof Fault) {
      world.fs.closeSync(descriptor);
      throw error;
    }
  }
  const { name, number, isRotated, stat, key } = packed;
  return new OpenFile(world, { name, number, isRotated, stat, key, descriptor, size, why });
}

/** A sibling that could not be used; by its `reportKey` it is known later that it was reported. */
type LeftOut = Pick<OpenFile, "name" | "number" | "writtenMs"> & { reportKey: string; why: string };

/**
 * Opens what lies beside the log without following links: files of root or of the log's owner.
 * Tries again until no name changed hands meanwhile (`isSettled`): a rotation would show one file
 * twice, or hide one; and what is being rotated may be closed to us for a moment.
 * `proofOf`: what shows that a file is the log's, where its name does not.
 */
async function openSiblings(
  world: World,
  log: string,
  live: OpenFile | undefined,
  proofOf: (file: OpenFile) => "position" | "between" | undefined = () => undefined,
) {
  const owner = live?.stat.uid ?? world.uid();
  const distrust: Distrust = ({ uid, nlink }) =>
    uid === owner || (uid === 0 && nlink === 1) ? undefined : "a hard link, or another user's";
  const namesIn = (listing?: ReturnType<typeof listSiblings>) =>
    listing?.files.map(({ name, inode }) => `${name} ${inode}`).join("\n");
  const unlisted = {
    number: undefined,
    writtenMs: 0,
    reportKey: UNLISTED,
    why: "it cannot be listed",
  };
  for (let tries = 1; ; tries++) {
    const [open, between, leftOut]: [OpenFile[], OpenFile[], LeftOut[]] = [[], [], []];
    let isStrange = false;
    const listing = ifPossible(() => listSiblings(world, log));
    if (!listing) leftOut.push({ ...unlisted, name: dirname(rotationPath(world, log)) });
    for (const sibling of listing?.files ?? []) {
      const { name, number, isRotated, isOld, isStranger, path, inode } = sibling;
      if (live && inode === inodeOf(live.stat)) continue;
      try {
        const { descriptor, stat } = openRegular(world, path, distrust, fs.constants.O_NOFOLLOW);
        const file = new OpenFile(world, { name, number, isRotated, descriptor, stat });
        const proof = isStranger ? proofOf(file) : undefined;
        if (proof === "between") between.push(file);
        else if (proof || !isStranger) open.push(file);
        else file.close();
        isStrange ||= proof === "position";
      } catch (error) {
        if (error instanceof Fault) throw error;
        const why = errorCode(error) === "ELOOP" ? "a link" : reason(error);
        // What cannot be looked into is a rotated log by its name alone.
        if (isOld) leftOut.push({ ...sibling, why });
      }
    }
    // Where the log's rotated files have names that tell nothing, there may be more of them.
    if (isStrange) open.push(...between);
    else for (const file of between) file.close();
    const isSettled = namesIn(ifPossible(() => listSiblings(world, log))) === namesIn(listing);
    if (tries >= 5 || (isSettled && (leftOut.length === 0 || tries > 1)))
      return { live, open, leftOut, snapshot: listing?.snapshot, isSettled, proofOf };
    for (const file of open) file.close();
    if (leftOut.length > 0) await world.sleep(100);
  }
}

/** Siblings with their first time, the oldest first; compressed ones are unpacked no further. */
async function siblingAges(world: World, open: readonly OpenFile[]) {
  const ages = [];
  for (const file of open) {
    let { firstTime, why } = file;
    try {
      for await (const chunk of file.key ? unpackedChunks(world, file) : []) {
        firstTime = firstTimeIn(chunk);
        break;
      }
    } catch (error) {
      why = reason(error);
    }
    const { name, number, lastTime } = file;
    ages.push({ name, number, firstTime, lastTime, why });
  }
  return byAge(ages);
}

/** The log's own siblings, the oldest first; compressed ones unpacked if wanted, else closed. */
async function unpackSiblings(
  world: World,
  siblings: Awaited<ReturnType<typeof openSiblings>>,
  scratchPath: string,
  isWanted: (packed: OpenFile) => boolean,
) {
  const { live, leftOut, isSettled, proofOf } = siblings;
  const opened: OpenFile[] = [];
  for (const packed of siblings.open) {
    const { name, number, isRotated, key, stat, writtenMs } = packed;
    try {
      const isUnpacked = key !== undefined && isWanted(packed);
      const file = isUnpacked ? await unpack(world, packed, scratchPath) : packed;
      const isText = isRotated && (key !== undefined || !PACKED_NAME.test(name));
      const isBinary = file.firstTime === "" && /[\x01-\x08]/.test(latin1(file.head));
      if ((file.firstTime !== "" || isText) && !isBinary && (isUnpacked || !key)) opened.push(file);
      else file.close();
      if (isText && isBinary && !key) throw new Error("it is not a text");
    } catch (error) {
      if (error instanceof Fault) throw error;
      const reportKey = reportKeyOf(name, stat);
      leftOut.push({ name, number, writtenMs, reportKey, why: reason(error) });
    }
  }
  // By a number or date it is the log's, or by a position; else it must not be younger than all that
  // the log has.
  const own = [...opened.filter(({ isRotated }) => isRotated), ...(live ? [live] : [])];
  const others = opened.filter((file) => {
    const isYounger = own.every(({ lastTime }) => file.firstTime > lastTime);
    return !file.isRotated && !proofOf(file) && live?.firstTime && isYounger;
  });
  for (const file of others) file.close();
  const open = byAge(opened.filter((file) => !others.includes(file)));
  // Looked at again when the log has grown: they may be the log's after all.
  const snapshot = others.length > 0 ? undefined : siblings.snapshot;
  // Of all that are compressed.
  const keys = siblings.open.flatMap(({ key }) => key ?? []);
  return { live, leftOut, isSettled, open, keys, snapshot };
}
type LogFiles = Awaited<ReturnType<typeof unpackSiblings>>;
// prettier-ignore
const NO_SIBLINGS: LogFiles = {
  live: undefined, open: [], leftOut: [], keys: [], snapshot: undefined, isSettled: true,
};

// The state: two copies, each replaced whole, never written in place.

/** `var-log-fail2ban.log-1a2b3c4d.json` */
export function stateFileName(log: string): string {
  const readable = log.replace(/^\/+/, "").replace(/[^\w.-]+/g, "-");
  return `${readable.slice(-150)}-${fingerprint(log).slice(0, 8)}.json`;
}

/** Changes a file of ours, which must succeed before anything is sent. */
function writing<Result>(path: string, work: () => Result): Result {
  try {
    return work();
  } catch (error) {
    if (error instanceof Fault) throw error;
    const hint = "progress must be saved before anything is sent; --state sets another directory";
    throw new Fault(73, `cannot write to ${path}: ${reason(error)}`, hint);
  }
}

/** What is wrong with who may write to something that we must trust; absent when nothing is. */
function ownershipProblem(world: World, stat: fs.Stats, owner = 0, mode = stat.mode) {
  const isOpen = (mode & 0o002) !== 0 || ((mode & 0o020) !== 0 && stat.gid !== world.gid());
  if (isOpen) return "is writable by others";
  return [0, world.uid(), owner].includes(stat.uid) ? undefined : "belongs to another user";
}

/** Where systemd keeps the state of services with DynamicUser; only root may enter. */
const SYSTEMD_PRIVATE = "/var/lib/private";

/** What lets others plant files or links in a directory, or put another one in its place. */
function directoryProblem(world: World, path: string): string | undefined {
  const own = world.fs.lstatSync(path, { throwIfNoEntry: false });
  if (!own) return undefined;
  if (own.isSymbolicLink()) return "is a link";
  if (!own.isDirectory()) return "is not a directory";
  // Root may operate a service's state that systemd keeps from everyone else.
  const isServices = world.uid() === 0 && dirname(path) === SYSTEMD_PRIVATE;
  const problem = ownershipProblem(world, own, isServices ? own.uid : 0);
  if (problem) return problem;
  for (let at = dirname(resolve(path)); ; at = dirname(at)) {
    const stat = ifPossible(() => world.fs.statSync(at));
    // Deno may not let us look.
    if (!stat) return undefined;
    // In a sticky directory no user can replace what others own.
    const isSticky = (stat.mode & 0o1000) !== 0;
    const wrong = ownershipProblem(world, stat, 0, isSticky ? 0 : stat.mode);
    if (wrong) return `lies in ${at}, which ${wrong}`;
    if (at === dirname(at)) return undefined;
  }
}

/** The state's directory must be ours. */
function checkStateDirectory(world: World, path: string, creates = false): void {
  const problem = writing(path, () => {
    if (creates && !world.fs.existsSync(path))
      world.fs.mkdirSync(path, { recursive: true, mode: 0o700 });
    return directoryProblem(world, path);
  });
  if (!problem) return;
  // In a sticky directory, as /tmp is, one of our own is safe.
  const isSticky = ((ifPossible(() => world.fs.statSync(path).mode) ?? 0) & 0o1000) !== 0;
  const own = isSticky ? resolve(path, "f2b-watch") : "/var/lib/f2b-watch";
  let hint = `use a directory of its own: --state ${own}`;
  if (problem === "is a link") hint = `use the directory itself: --state "$(realpath ${path})"`;
  throw new Fault(73, `state directory ${path} ${problem}`, hint);
}

/** The text of a file that no other user may have written. */
function readOwned(world: World, path: string, flags = 0, owner = 0): string {
  const distrust: Distrust = (stat) => {
    const problem = ownershipProblem(world, stat, owner);
    return problem && `it ${problem}`;
  };
  using file = openRegular(world, path, distrust, flags);
  return world.fs.readFileSync(file.descriptor, "utf8");
}

/** The text of one copy, if there is one; one that we may not read, or a newer one, is a fault. */
function readCopy(world: World, path: string): string | undefined {
  let text: string;
  try {
    const { uid } = world.fs.statSync(dirname(path));
    text = readOwned(world, path, fs.constants.O_NOFOLLOW, uid);
  } catch (error) {
    if (errorCode(error) === "ENOENT") return undefined;
    const hint = "it must be a file of this user, mode 600; or choose another directory: --state";
    throw new Fault(73, `cannot read state ${path}: ${reason(error)}`, hint);
  }
  const version = Number(/"version": ?(\d+)/.exec(text)?.[1] ?? 0);
  const newer = `the state was written by a newer f2b-watch (state version ${version})`;
  if (version > 1) throw new Fault(73, newer, "upgrade f2b-watch here");
  return text;
}

/** A state as it was saved last, by whomever, unvalidated; absent when it is damaged or closed. */
function lastState(world: World, path: string): State | undefined {
  return unsealed(ifPossible(() => readCopy(world, path)) ?? "");
}

/** One copy's text as it was written, which its checksum proves; absent when it is damaged. */
function unsealed(text: string): State | undefined {
  return ifPossible(() => {
    const { checksum, ...state }: State & { checksum?: unknown } = JSON.parse(text);
    const sealed = text.slice(0, text.lastIndexOf(',\n "checksum"'));
    if (checksum === checksumOf(sealed)) return state;
    // The first states had another one.
    return checksum === fingerprint(JSON.stringify(state)) ? state : undefined;
  });
}

/** Reads one copy's text; absent when it is damaged, or of a wrong shape. */
export function parseState(text: string): State | undefined {
  const state = unsealed(text);
  return state && z.safeParse(State(), state).data;
}

export function sealState(state: State): string {
  const text = JSON.stringify(state, undefined, 1).slice(0, -"\n}".length);
  // A short list stays on its line.
  const sealed = text.replace(/\[[^[\]{}]*\]/g, (list) => list.replace(/\n */g, " "));
  return `${sealed},\n "checksum": "${checksumOf(sealed)}"\n}\n`;
}

/** By words of four bytes: an idle run proves its state, too, before any loop is compiled. */
function checksumOf(text: string): string {
  const words = new Uint32Array(Math.ceil((text.length * 3) / 4));
  const { written } = encoder.encodeInto(text, new Uint8Array(words.buffer));
  let [sum, sums] = [written, 0];
  for (let index = 0; index * 4 < written; index++) {
    sum = (sum + (words[index] ?? 0)) | 0;
    sums = (sums + sum) | 0;
  }
  return `${sum.toString(36)} ${sums.toString(36)}`;
}

/** Where the state of a log is; what belongs to it has this name and an ending. */
function statePathOf({ state, log }: Pick<Settings, "state" | "log">): string {
  return resolve(state, stateFileName(log));
}

/** The state of a log; `isDamaged`: the newer copy is, and where there is no state, both are. */
function readState(world: World, kept: Pick<Settings, "state" | "log">) {
  const path = statePathOf(kept);
  const [text, older] = [path, `${path}.bak`].map((copy) => readCopy(world, copy));
  const newest = parseState(text ?? "");
  const state = newest ?? parseState(older ?? "");
  const hint = "use another directory for one of them: --state";
  if (state && state.log !== kept.log)
    throw new Fault(73, `${path} holds the state of another log, ${neutralise(state.log)}`, hint);
  return { state, isDamaged: !newest && (text ?? older) !== undefined };
}

/** Replaces the state; the one before it becomes the second copy, unless it is `damaged`. */
function saveState(world: World, path: string, state: State, damaged: boolean): void {
  const fresh = `${path}.tmp`;
  writing(path, () => {
    writePrivate(world, fresh, fs.constants.O_EXCL, sealState(state));
    if (!damaged && world.fs.existsSync(path)) world.fs.renameSync(path, `${path}.bak`);
    world.fs.renameSync(fresh, path);
    using directory = closing(world, world.fs.openSync(dirname(path), "r"));
    world.fs.fsyncSync(directory.descriptor);
  });
}

// The lock is the kernel's (one byte of the file, by SQLite): any death frees it.
// The lock file is never deleted, nor opened by us while it is held: closing it would unlock.

/** Takes the lock, or says by its absence that another run holds it. */
function acquireLock(path: string) {
  const sqlite = process.getBuiltinModule("node:sqlite");
  if (!sqlite)
    throw new Fault(73, "this runtime has no node:sqlite", "use Bun 1.4 or Deno 2.2 at least");
  let database: InstanceType<typeof sqlite.DatabaseSync> | undefined;
  try {
    database = new sqlite.DatabaseSync(path);
    database.exec("PRAGMA journal_mode=MEMORY; BEGIN IMMEDIATE");
    return { [Symbol.dispose]: database.close.bind(database) };
  } catch (error) {
    database?.close();
    if (reason(error).includes("is locked")) return undefined;
    const hint = "it must be an empty file, on a file system that supports locks";
    throw new Fault(73, `cannot lock ${path}: ${reason(error)}`, hint);
  }
}

// ── World: destinations ─────────────────────────────────────────────────────────────────────────
// One message in, one verdict out; it is posted, or printed where no channel is set. No URL and no
// token leaves this section.

/** Makes one request, and reads its reply or the lack of one. */
async function post(world: World, service: Connected, call: Call, leftMs = Infinity) {
  const { url, headers = {}, body } = call;
  const proxy = proxyOf(world, new URL(url));
  let answer: Reply | Verdict;
  try {
    const isForm = body instanceof FormData;
    const packed = body && new Response(isForm ? body : JSON.stringify(body));
    const type = isForm ? packed?.headers.get("content-type") : "application/json; charset=utf-8";
    const bytes = await packed?.arrayBuffer();
    // At 100 KB/s a file of 4 MiB takes most of a minute.
    const uploadMs = isForm ? Math.ceil((bytes?.byteLength ?? 0) / 100) : 0;
    // A post that is cut short may have arrived: it gets two seconds even if the run has less.
    const limitMs = Math.min(20 * SECOND + uploadMs, Math.max(leftMs, 2 * SECOND));
    const response = await world.fetch(url, {
      ...(bytes && { method: "POST", body: bytes }),
      headers: {
        ...{ "user-agent": service.userAgent, "accept-encoding": "identity" },
        ...(bytes && type ? { "content-type": type } : {}),
        ...headers,
      },
      redirect: "error",
      signal: world.timeout(limitMs),
    });
    const decoder = new TextDecoder();
    let text = "";
    for await (const chunk of response.body ?? []) {
      text += decoder.decode(chunk, { stream: true });
      // A reply may never end.
      if (text.length > 64 * 1024) break;
    }
    const { status, headers: answered } = response;
    answer = { status, headers: Object.fromEntries(answered), body: text };
  } catch (error) {
    answer = readFetchError(error, proxy);
  }
  const reply = "kind" in answer ? undefined : answer;
  const verdict = "kind" in answer ? answer : readReply(service, answer);
  const [, general]: Ending = VERDICTS[verdict.kind];
  return { ...verdict, hint: (verdict.hint ?? general)?.replace("HOST", service.host), reply };
}

/** The variable that names the proxy for this URL; throws if it names none. */
function proxyOf({ env }: World, { protocol, hostname, port }: URL): string | undefined {
  const find = (wanted: string) =>
    Object.keys(env).find((name) => env[name] && name.toLowerCase() === wanted);
  const spared = (env[find("no_proxy") ?? ""] ?? "").toLowerCase().split(/[\s,]+/);
  // A name stands for what is below it, too.
  const ends = [`.${hostname}`, `.${hostname}:${port || (protocol === "http:" ? 80 : 443)}`];
  const covers = (name: string) => ends.some((end) => end.endsWith(name.replace(/^\*?\.?/, ".")));
  if (spared.some((name) => name === "*" || (name && covers(name)))) return undefined;
  const name = find(protocol.replace(":", "_proxy"));
  // Both runtimes also take a host and a port alone.
  if (name && !/^(?:\w+:)?\/\/[^\s/]|^[^\s/]+:\d+\/?$/.test(env[name]?.trim() ?? ""))
    throw new Fault(78, `${name}: expected http://<host>:<port>, found something else`);
  return name;
}

/** A service as a run uses it. */
type Destination = ReturnType<typeof destinationOf>;

function destinationOf({ host, view }: Settings, service: Connected) {
  const { header, encode, hasColors } = service;
  const colors = hasColors && view.color;
  return {
    ...service,
    colors,
    /** A whole message: words, then lines in a fence. */
    fenced: (before: string, lines: string) =>
      `${header(host, "")}${encode(before)}\`\`\`${colors ? "ansi" : ""}\n${lines}\n\`\`\``,
    /** A whole message without a fence; `words` are in the service's markup. */
    plain: (before: string, words: string) => header(host, words) + encode(before) + words,
  };
}

/** Prints messages as a channel would show them: sender, text, file. */
function printer(world: World, { host, dryRun, said }: Settings) {
  const name = discordName(host);
  // What counts as sent must have been read; a dry run just ends, without a word.
  const closed = dryRun ? new Fault(0, "") : new Fault(75, "cannot write to stdout: broken pipe");
  let buffered = "";
  const flush = async (file: AttachedFile["text"] = "") => {
    const texts = [buffered, file].filter(({ length }) => length > 0);
    buffered = "";
    for (const text of texts) await print(world, text, closed);
    if (texts.length > 0) await world.sleep(0);
  };
  const add = ({ content, file }: Message): Promise<void> | undefined => {
    const message = "no destination is set, messages go to stdout";
    if (!dryRun && isFirst(said, message)) complain(world, message, SET_ONE);
    buffered += `${name}\n${content}\n${file ? `[${file.name}]\n` : ""}`;
    // What counts as sent is printed. Parts of this size are as fast as larger ones.
    return dryRun && !file && buffered.length < 64 * 1024 ? undefined : flush(file?.text);
  };
  return { add, [Symbol.asyncDispose]: () => flush() };
}

/** Where messages go if no service is configured. */
const STDOUT: Connected = {
  ...DISCORD,
  name: "stdout",
  title: "stdout",
  limit: 1_999,
  markup: { bold: (text) => text, code: shortened, link: (url) => url, small: (text) => text },
  hasColors: false,
  overflow: "none",
  settings: "",
  host: "",
  secrets: [],
  compose: () => ({ url: "" }),
  ask: { text: `none: messages go to stdout (${SET_ONE})`, doubt: "", untouched: undefined },
};

/** Prints what was asked for; a reader that closes it has seen enough, or `closed` is thrown. */
async function print(world: World, text: AttachedFile["text"], closed?: Fault): Promise<number> {
  try {
    await world.writeOut(text);
  } catch (error) {
    const isClosed = errorCode(error) === "EPIPE";
    if (isClosed && closed) throw closed;
    if (!isClosed) throw new Fault(75, `cannot write to stdout: ${reason(error)}`);
  }
  return 0;
}

/** Whether a run has not said this yet; from now on it has. */
function isFirst(said: Set<string>, message: string): boolean {
  const before = said.size;
  return said.add(message).size > before;
}

/** Writes one line, and one with a hint; on a terminal they replace the progress line. */
function complain(world: World, message: string, hint?: string): void {
  const lines = [`f2b-watch: ${message}`, ...(hint ? [`hint: ${hint}`] : [])];
  const clean = lines.map((line) => neutralise(redact(line, [])).replaceAll("\n", "\\n"));
  world.writeError(`${world.terminal ? "\r\x1b[K" : ""}${clean.join("\n")}\n`);
}

/** Asks a service without posting; throws what a run would meet. */
async function askService(world: World, service: Connected): Promise<Asked> {
  const { ask, host, title } = service;
  if (!("url" in ask)) return ask;
  const { reply, ...verdict } = await post(world, service, ask);
  const asked = reply && ask.read(reply);
  if (asked) return asked;
  const isFine = reply && VERDICTS[verdict.kind][0] === 0;
  const { kind, why, hint } = isFine ? notAs(title, reply) : verdict;
  throw new Fault(VERDICTS[kind][0], why, hint?.replace("HOST", host));
}

// ── World: fail2ban-client ──────────────────────────────────────────────────────────────────────
// Asked only for what it knows: an unknown jail would make fail2ban log a line, for us to send.

/** This user, or this runtime, may not ask; another could. */
class Closed extends Fault {}

/** fail2ban's socket cannot be reached: the one fault that a ping is for. */
class Down extends Fault {}

function unreadable(question = "status", hint = ""): Fault {
  const command = `fail2ban-client ${question}`;
  return new Fault(66, `unexpected output of ${command}`, `see for yourself: ${command}${hint}`);
}

/** What fail2ban-client, 0.9 to 1.1.1, prints; throws where it fails, without its own words. */
async function askClient(world: World, ...words: readonly string[]): Promise<string> {
  const ran = await world.runProgram("fail2ban-client", words);
  const without = "or do without status and --ping";
  if (ran.kind === "missing")
    throw new Fault(66, "fail2ban-client is not installed", `install fail2ban, ${without}`);
  if (ran.kind !== "ended")
    throw new Fault(66, "fail2ban does not answer in time", "systemctl restart fail2ban");
  if (ran.code === 0) return ran.out;
  const text = ran.out + ran.err;
  if (/permission denied/i.test(text))
    throw new Closed(66, "only root may ask fail2ban", `run as root, ${without}`);
  // What is left of a killed server refuses connections.
  if (!/Failed to access socket|Unable to contact server|Connection re(?:fused|set)/.test(text))
    throw unreadable();
  const hint = "systemctl restart fail2ban; if it stays down: journalctl -u fail2ban";
  throw new Down(66, "fail2ban does not answer: its socket cannot be reached", hint);
}

/** Of its jails the named ones, else those of --jail, else all; throws where one, or each, is missing. */
function jailsIn(answer: string, { view }: Settings, named: readonly string[] = [], some = false) {
  const { "Number of jail": count, "Jail list": list = "" } = labelled(answer);
  const all = list.split(", ").filter((name) => name !== "");
  if (`${all.length}` !== count) throw unreadable("status", "; no comma in jail names");
  const wanted = named.length > 0 ? new Set(named) : view.jails;
  const found = all.filter((name) => wanted.size === 0 || wanted.has(name));
  const missing = [...wanted].find((name) => !all.includes(name));
  if (missing === undefined || (some && found.length > 0)) return found;
  const place = named.length > 0 ? "" : "--jail: ";
  const hint = didYouMean(missing, all) ?? `fail2ban has: ${all.join(", ") || "no jails"}`;
  throw new Fault(64, `${place}fail2ban has no jail ${quoted(missing)}`, hint);
}

/** What fail2ban says of the named jails, of those of `--jail`, or of all. */
async function jailStatuses(world: World, settings: Settings, named: readonly string[]) {
  const jails: JailStatus[] = [];
  // Some jails of --jail may be another host's.
  const names = jailsIn(await askClient(world, "status"), settings, named, named.length === 0);
  for (const name of names) {
    const jail = readJailStatus(name, await askClient(world, "status", name), settings.ownSecrets);
    if (!jail) throw unreadable(`status ${JSON.stringify(name)}`);
    jails.push(jail);
  }
  return jails;
}

// ── World: what no log says ─────────────────────────────────────────────────────────────────────
// What fail2ban's own database knows of a ban, and the country of an address. Both are optional:
// where a source fails that is reported, and messages go out without.

const LOOKUPS_PER_MESSAGE = 50;

/** What a run has looked up, and which sources it gave up. */
export class Facts {
  readonly bans = new Map<object, NonNullable<ReturnType<typeof knownOf>>>();
  /** By id: `DE`, or a network's `AS64500`. */
  readonly countries = new Map<string, string | undefined>();
  readonly givenUp = new Set<string>();
  /** Whether each source that was asked works, until that is reported. */
  readonly news = new Map<string, Fault | undefined>();
}

/** Looks up what can be known of these bans and ids; never fails. */
export async function lookUpFacts(world: World, settings: Settings, all: { id: string }[]) {
  const { geo, facts } = settings;
  const wanted = all.filter((each): each is Of<"ban"> => "event" in each && each.event === "ban");
  // Of its own: another destination's message is looked up meanwhile.
  const bans: Facts["bans"] = new Map();
  const ask = async (source: string, look: () => Promise<unknown>) => {
    if (facts.givenUp.has(source)) return;
    const found = await faultOr(66, look);
    const fault = found instanceof Fault ? found : undefined;
    if (fault) facts.givenUp.add(source);
    facts.news.set(source, fault);
  };
  if (wanted.length > 0)
    await ask("database", async () => {
      const path = databaseOf(world, settings);
      if (!path) return;
      // fail2ban's observer thread stores a ban a moment after it was logged.
      const justNow = wallClock(world.now()) - 2 * SECOND;
      if (wanted.some(({ time }) => wallClockMs(time) >= justNow)) await world.sleep(200);
      const keys = wanted.map(({ jail, id }) => [jail, id]);
      const stored = readBans(world, path, "AND jail = ? AND ip = ?", keys);
      for (const [index, ban] of wanted.entries()) {
        const known = knownOf(ban.time, stored[index] ?? [], settings);
        if (known) bans.set(ban, known);
      }
    });
  const ids = geo ? all.map(({ id }) => id) : [];
  const unknown = [...new Set(ids)].filter((id) => addressOf(id) && !facts.countries.has(id));
  const asked = unknown.slice(0, LOOKUPS_PER_MESSAGE);
  const look = async (id: string) =>
    facts.countries.set(id, await lookUpCountry(world, geo ?? "", addressOf(id)));
  for (let at = 0; at < asked.length; at += 10)
    await ask("geo", () => Promise.all(asked.slice(at, at + 10).map(look)));
  return { ...facts, bans };
}

/** fail2ban's database; the default one is none where it cannot be opened, else that is 78. */
function databaseOf(world: World, { database, databaseNamed }: Settings): string | undefined {
  if (!database) return undefined;
  try {
    // Closed at once: later, that would take away the locks of SQLite, too.
    world.fs.closeSync(openRegular(world, database, () => undefined).descriptor);
    return database;
  } catch (error) {
    if (databaseNamed) throw databaseFault(database, error, 78);
    return undefined;
  }
}

function databaseFault(path: string, error: unknown, exitCode: number): Fault {
  // Of a change that was cut off SQLite would put back what was there before.
  const why = reason(error).replace("attempt to write a readonly database", "a write was cut off");
  let hint = "go without: --database none";
  if (/^E(?:ACCES|PERM)$/.test(errorCode(error) ?? "")) hint = `run as root, or ${hint}`;
  if (why.includes("is locked")) hint = `see who holds it: fuser ${path}`;
  if (/malformed|cut off/.test(why)) hint = "fail2ban repairs it: systemctl restart fail2ban";
  if (/^no such (?:table|column)/.test(why)) hint = `fail2ban 0.11 or newer is needed, or ${hint}`;
  return new Fault(exitCode, `cannot use fail2ban's database ${path}: ${why}`, hint);
}

/**
 * Bans in fail2ban's database, for each of `keys`. SQLite holds a read lock during each statement
 * alone, so that fail2ban hardly waits.
 */
function readBans(world: World, path: string, rest: string, keys: readonly string[][]) {
  try {
    const problem = ownershipProblem(world, world.fs.statSync(path));
    if (problem) throw new Error(`it ${problem}`);
    const { DatabaseSync } = process.getBuiltinModule("node:sqlite");
    using database = new DatabaseSync(path, { readOnly: true });
    // Deno ignores the option `timeout`.
    database.exec("PRAGMA busy_timeout = 500");
    const count = z.int().check(z.minimum(0));
    // Of fail2ban 0.11 to 1.1: `users` is a set as Python writes it, or a list of JSON.
    const text = z.catch(z.string(), "");
    const shape = { timeofban: count, count, failures: count, user: text, users: text };
    const row = z.object({ ...shape, seconds: z.int().check(z.minimum(-1)) });
    // `data` is JSON, as text or as bytes.
    const statement = database.prepare(`SELECT timeofban, bantime AS seconds, bancount AS count,
      json ->> 'failures' AS failures, json ->> 'user' AS user, json ->> 'users' AS users
      FROM (SELECT *, CAST(data AS TEXT) AS json FROM bans) WHERE json_valid(json) ${rest}`);
    return keys.map((values) =>
      statement.all(...values).flatMap((each) => z.safeParse(row, each).data ?? []),
    );
  } catch (error) {
    throw databaseFault(path, error, 66);
  }
}

/**
 * What rows of the database with its jail and id say of a ban of nearly this time: `failures` as
 * fail2ban counted them; `users` are the names tried, an attacker's text.
 */
function knownOf(time: string, rows: ReturnType<typeof readBans>[number], settings: Settings) {
  // By the wall clock, as the log has it, which has the ban a moment after its last failure.
  const apart = (at: number) => Math.abs(wallClock(at * SECOND) - wallClockMs(time));
  const row = rows.find(({ timeofban }) => apart(timeofban) <= 2 * SECOND);
  if (!row) return undefined;
  const { timeofban, user, users, failures, seconds } = row;
  // Without `bantime.increment` fail2ban counts no bans, but it keeps them for `dbpurgeage`.
  const kept = rows.filter((each) => each.timeofban <= timeofban).length;
  const listed = users.matchAll(/'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"/g);
  const others = [...listed].map(([, single, double = ""]) => single ?? double);
  // Python and JSON escape what they list.
  const escaped = /\\(?:x([\da-f]{2})|u([\da-f]{4})|([nrt])|(.))/g;
  const plain = (name: string) =>
    name.replace(escaped, (_, byte?: string, unit = byte, blank?: string, character?: string) =>
      unit ? String.fromCharCode(Number.parseInt(unit, 16)) : blank ? " " : (character ?? ""),
    );
  const tried = [user, ...others.map(plain)];
  const clean = tried.map((name) => cleanText(name, settings.ownSecrets).replace(/\s+/g, " "));
  const known = new Set(settings.userNames ? clean.filter(Boolean) : []);
  return { failures, count: Math.max(row.count, kept), seconds, users: [...known] };
}

/**
 * The country of one address out of GeoLite2's or DB-IP's countries or cities, or else its network,
 * by MaxMind's own reader; throws where it cannot be asked. The default is nobody's, by RFC 5737.
 */
async function lookUpCountry(world: World, geo: string, address = "192.0.2.1") {
  const words = ["--file", geo, "--ip", address];
  const ran = await world.runProgram("mmdblookup", words, 2 * SECOND);
  const fault = (why: string, hint: string) => new Fault(66, `no countries: ${why}`, hint);
  if (ran.kind === "missing") throw fault("mmdblookup is not installed", "apt install mmdb-bin");
  if (ran.kind !== "ended")
    throw fault("mmdblookup does not answer", `see what it does: mmdblookup ${words.join(" ")}`);
  const said = ran.out + ran.err;
  // No entry, or an IPv6 address where there is IPv4 only.
  if (ran.code === 6 || said.includes("IPv4-only database")) return undefined;
  const why = / - (.+)/.exec(said)?.[1] ?? "mmdblookup fails";
  if (ran.code !== 0) throw fault(`cannot read ${geo}: ${why}`, "--geo must name an .mmdb file");
  const codeIn = (name: string) => {
    const block = new RegExp(`^ {4}"${name}": *\\n( +)\\{\\n([^]*?)^\\1\\}`, "m").exec(ran.out);
    return /"iso_code": *\n *"([A-Z]{2})"/.exec(block?.[2] ?? "")?.[1];
  };
  const network = /^ {4}"autonomous_system_number": *\n *(\d{1,10}) /m.exec(ran.out)?.[1];
  return codeIn("country") ?? codeIn("registered_country") ?? (network && `AS${network}`);
}

/** A country's code with its flag; a network has none. */
function countryText(code: string): string {
  if (code.length !== 2) return code;
  const letters = [...code].map((letter) => 0x1f1e6 + letter.charCodeAt(0) - 65);
  return `${String.fromCodePoint(...letters)} ${code}`;
}

// ── The pass ────────────────────────────────────────────────────────────────────────────────────
// Reads by plan, posts by verdict, saves after each confirmed message. The job that is handed down
// holds the state and the log's files, each opened once.

type Job = Awaited<ReturnType<typeof openJob>>;

async function openJob(world: World, settings: Settings, isPass: boolean) {
  const { log, dryRun, deadline, isFound } = settings;
  const statePath = statePathOf(settings);
  const saved = readState(world, settings);
  let { isDamaged } = saved;
  const blank = { version: 1, log, destinations: {}, channels: {}, failures: {} } as const;
  const state: State = saved.state ?? blank;
  /** Both copies of the state were damaged. */
  const stateLost = isDamaged && !saved.state;
  /** There was no state: nothing of this log has ever been read. */
  const firstRun = !stateLost && Object.keys(state.destinations).length === 0;
  // Logs whose states lie together share a channel's limits: who posted last knows them.
  for (const file of ifPossible(() => world.fs.readdirSync(settings.state)) ?? []) {
    if (!file.endsWith(".json") || file === stateFileName(log)) continue;
    const other = lastState(world, resolve(settings.state, file));
    for (const [name, { posts, asked, pause }] of Object.entries(other?.channels ?? {})) {
      const { [name]: own = { posts: [] } } = state.channels;
      const laterMs = (posts.at(-1) ?? 0) - (own.posts.at(-1) ?? 0);
      if ((laterMs || posts.length - own.posts.length) > 0)
        state.channels[name] = { ...own, posts, asked, pause };
    }
  }
  const before = JSON.stringify(state);
  const opened: Promise<LogFiles>[] = [];
  const found = await faultOr(66, () => openLive(world, log, isFound));
  const [live, logFault] = found instanceof Fault ? [undefined, found] : [found, undefined];
  const save = () => {
    // Only a pass reports a damaged state, so nothing else may repair it.
    if (dryRun || (stateLost && !isPass)) return;
    saveState(world, statePath, state, isDamaged);
    isDamaged = false;
  };
  return {
    ...{ world, settings, statePath, deadline, state, stateLost, firstRun, live, logFault, save },
    /** A file changed while it was read: the pass starts again from the saved state. */
    logChanged: false,
    siblings(all = false): Promise<LogFiles> {
      return (opened[all ? 1 : 0] ??= siblingsFor(this, all));
    },
    channel: (name: string): Channel => (state.channels[name] ??= { posts: [] }),
    /** The last save of a pass; afterwards both copies know every confirmed message. */
    saveChanges(): void {
      if (JSON.stringify(state) === before && !isDamaged) return;
      save();
      if (firstRun || stateLost) save();
    },
    async [Symbol.asyncDispose](): Promise<void> {
      const all = await Promise.all(opened.map((each) => each.catch(() => NO_SIBLINGS)));
      for (const file of [live, ...all.flatMap(({ open }) => open)]) file?.close();
    },
  };
}

/** The siblings; compressed ones only if some destination has not finished them, or all. */
async function siblingsFor(job: Job, all: boolean): Promise<LogFiles> {
  const { world, settings, state, stateLost, live } = job;
  const { log, dryRun, view } = settings;
  const parts = Object.values(state.destinations);
  const isOn = ({ cursor }: Progress) => cursor !== undefined && live?.matches(cursor) === true;
  // The first states noted no compressed files: where the log continues, none of them matters.
  const isKnown = (part: Progress, key: string) => part.known?.includes(key) ?? isOn(part);
  // It holds a position, or what was written between that and the log.
  const proofOf = (file: OpenFile) => {
    const cursors = parts.flatMap(({ cursor }) => cursor ?? []);
    if (cursors.some((cursor) => file.matches(cursor))) return "position";
    const isBehind = cursors.some(({ lastTime = "~" }) => file.firstTime >= lastTime);
    return isBehind && file.lastTime <= (live?.firstTime ?? "") ? "between" : undefined;
  };
  const siblings = await openSiblings(world, log, live, proofOf);
  const newestMs = Math.max(...siblings.open.map(({ writtenMs }) => writtenMs));
  const isWanted = ({ key = "", writtenMs }: OpenFile) =>
    all ||
    stateLost ||
    (writtenMs === newestMs && view.format === "events") ||
    parts.some((part) => !isKnown(part, key));
  const scratchPath = `${job.statePath}.unpacked${dryRun ? "-dry" : ""}`;
  return await unpackSiblings(world, siblings, scratchPath, isWanted);
}

function say({ world, settings }: Job, message: string): void {
  if (settings.verbose) world.writeError(`f2b-watch: ${message}\n`);
}

/** A line on a terminal that each call replaces. */
function showProgress({ world }: Job, text: string): void {
  if (world.terminal) world.writeError(`\r\x1b[K${text}`);
}

/** Reports a failure when it begins or changes, after an hour, then daily; and when it is over. */
function report(job: Job, key: string, fault: Fault | undefined, over: string, ended?: Ended) {
  const { world, state, settings } = job;
  const { dryRun, said } = settings;
  const { [key]: last } = state.failures;
  if (!fault) {
    if (!last || dryRun) return;
    if (isFirst(said, over)) complain(world, over);
    // Who was told of it is told that it is over.
    if (world.heard || last.told === 0) delete state.failures[key];
    return;
  }
  const { exitCode, message, hint } = fault;
  if (message === "") return;
  const now = world.now();
  // An outage words itself differently from run to run, and status codes vary.
  const words = exitCode === 75 ? "" : message.replace(/\d+/g, "");
  const why = fingerprint(`${ended?.destination.settings} ${words}`);
  const isSame = last?.exitCode === exitCode && (last.reason ?? why) === why;
  // A time in the future means that the clock was set back.
  const lasts = isSame && Math.max(last.since, last.told) <= now;
  const { since, told } = lasts ? last : { since: now, told: last?.told ?? 0 };
  const dueAt = told < since + HOUR ? since + HOUR : told + DAY;
  // If it was reported before it began, it has not been seen yet.
  const isDue = !lasts || told < since || now >= dueAt;
  // If the state cannot be saved, the report cannot be remembered.
  const isSaid = isDue || exitCode === 73 || world.terminal || dryRun;
  // One run says it once, however many logs wait for the same destination.
  if (isSaid && isFirst(said, message)) {
    const unsent = ifPossible(() => ended?.source?.waiting?.());
    complain(world, unsent ? `${message}; ${unsent}` : message, hint);
  }
  if (isDue) state.failures[key] = { since, told: world.heard ? now : told, exitCode, reason: why };
}

// ── The pass: turns ─────────────────────────────────────────────────────────────────────────────
// One run works at a time; the others leave a mark and exit, and the working run checks for it
// before it exits.

/** What a session sends to each destination; absent if nothing. */
type Work = (job: Job, own: Destination) => Source | undefined | Promise<Source | undefined>;

/** How a destination's part of a session ended. */
interface Ended {
  readonly destination: Destination;
  /** How many messages were sent, or what went wrong; absent if there was nothing to send. */
  readonly outcome: number | Fault | undefined;
  readonly source: Source | undefined;
}

/**
 * One turn with the state: takes the lock, or `waits` for it; sends to all destinations at once,
 * reports, saves, releases. Absent if another run is in progress. A dry run takes no lock, and
 * prints what one destination is sent after the other.
 */
async function session(world: World, settings: Settings, work: Work, waits = false) {
  const { dryRun, deadline, services } = settings;
  const isPass = work === newLines;
  const path = statePathOf(settings);
  // Anybody who can read it could lock it.
  if (!dryRun) writePrivate(world, `${path}.lock`, 0, "");
  let lock = dryRun ? undefined : acquireLock(`${path}.lock`);
  for (; !dryRun && !lock; lock = acquireLock(`${path}.lock`)) {
    if (!waits) return undefined;
    if (world.now() >= deadline || world.stopping.aborted)
      throw new Fault(75, "another run is still in progress", "try again when it is done");
    await world.sleep(200);
  }
  using _lock = lock;
  if (isPass && !dryRun) {
    writing(path, () => world.fs.rmSync(`${path}.mark`, { force: true }));
    await waitForRestore(world, settings);
  }
  await using job = await openJob(world, settings, isPass);
  if (isPass) await reportMismatches(job);
  const parts: Promise<Ended>[] = [];
  for (const destination of services.map((service) => destinationOf(settings, service))) {
    const part = async (): Promise<Ended> => {
      let source: Source | undefined;
      // What goes wrong with one destination stays with it.
      const outcome = await faultOr(70, async () => {
        source = await work(job, destination);
        return source && (await deliver(job, destination, source));
      });
      return { destination, outcome, source };
    };
    parts.push(part());
    if (dryRun) await parts.at(-1);
  }
  const ended = await Promise.all(parts);
  showProgress(job, "");
  const exitCode = reportEnded(job, ended);
  const { verbose, ping, databaseNamed, manyLogs, marks } = settings;
  const isUsual = !verbose && !ping && !databaseNamed && !manyLogs;
  const names = services.map(({ name }) => name);
  // Lets the next run with these settings, or fewer, see that nothing is new without validating.
  if (isPass) job.state.validated = isUsual ? { marks, names } : undefined;
  // A failed save has been reported and is not retried.
  if (exitCode !== 73 && exitCode !== 70) job.saveChanges();
  return { exitCode, logChanged: job.logChanged };
}

/** Lets a restart finish restoring bans, so that it is reported as a whole. */
async function waitForRestore(world: World, settings: Settings): Promise<void> {
  const saved = lastState(world, statePathOf(settings));
  if (!saved || settings.view.format !== "events") return;
  // It takes fail2ban some seconds.
  const until = Math.min(settings.deadline, world.now() + 10 * SECOND);
  const offsets = Object.values(saved.destinations).map(({ cursor }) => cursor?.offset ?? 0);
  for (let from = Math.min(...offsets); ; await world.sleep(SECOND)) {
    using live = ifPossible(() => openLive(world, settings.log));
    if (!live) return;
    const start = from > live.size ? 0 : Math.max(from, live.size - 64 * 1024);
    const text = latin1(live.read(start, live.size - start));
    from = live.size;
    const isOver = !/Restore Ban|Starting Fail2ban|Jail '[^']*' started/.test(text);
    if (isOver || world.now() >= until || world.stopping.aborted) return;
  }
}

/** The log's new lines, for one destination. */
async function newLines(job: Job, destination: Destination): Promise<Source> {
  const { settings, state, live, logFault, firstRun } = job;
  const { view, host, log } = settings;
  const { name } = destination;
  if (logFault) throw logFault;
  let progress = state.destinations[name] ?? (await startProgress(job));
  // A dry run keeps nothing: a new destination starts where the others really are.
  if (settings.dryRun) progress = structuredClone(progress);
  else state.destinations[name] = progress;
  // From now on the log is known: what is rotated away later is not history.
  if (firstRun) job.save();
  const plan = await planFor(job, destination, progress);
  // A log that is not fail2ban's would be silence where lines are chosen or worded: said once.
  const isAsItIs = showsAll({ ...view, color: false });
  const foreign = live && !isAsItIs && !progress.foreign ? foreignText(lastLines(live)) : "";
  if (foreign) {
    progress.foreign = true;
    const where = `${host}: ${neutralise(basename(log))}`;
    progress.notice = `${progress.notice ?? ""}⚠️ ${where}: ${foreign}\n`;
  }
  return new LogSource(job, destination, progress, plan);
}

/** Reports how the part of each destination ended; returns the exit code. */
function reportEnded(job: Job, ended: readonly Ended[]): number {
  const { world, state, live } = job;
  const { log, dryRun, prints, facts } = job.settings;
  for (const [name, fault] of facts.news) report(job, name, fault, `${name} works again`);
  facts.news.clear();
  const faults = ended.flatMap(({ outcome }) => (outcome instanceof Fault ? outcome : []));
  const unread = faults.find(({ exitCode }) => exitCode === 66);
  if (unread || live) report(job, "log", unread, `${log} can be read again`);
  for (const each of ended) {
    const { destination, outcome, source } = each;
    const { name, title } = destination;
    const held = state.destinations[name]?.held;
    if (!held && !unread) report(job, "stuck", undefined, `fail2ban writes to ${log} again`);
    if (held && !dryRun && source?.hasMoved) {
      held.passes = (held.passes ?? 0) + 1;
      // For a moment after a rename that is normal; after five runs with new lines in it, or a
      // minute, fail2ban was never told to reopen its log.
      if (held.passes >= 5 || world.now() - held.since >= MINUTE) {
        const message = `fail2ban still writes to ${resolve(dirname(log), held.name)}`;
        report(job, "stuck", new Fault(0, message, "fail2ban-client flushlogs"), "");
      }
    }
    if (outcome === undefined) continue;
    const fault = outcome instanceof Fault ? outcome : undefined;
    if (fault?.exitCode === 66) continue;
    // Where nothing was sent, it is not known whether it works again. Counting what waits reads all
    // of it, so that is done only for a report.
    if (outcome !== 0) report(job, name, fault, `${title} works again`, each);
    const text =
      outcome === 0 ? "nothing new for" : `${amount(Number(outcome), "message")} sent to`;
    if (!fault && world.terminal && !prints) complain(world, `${text} ${title}`);
  }
  return worstExit(faults.map(({ exitCode }) => exitCode));
}

/**
 * Asks fail2ban once a day about a jail that it may not have, or a log that it may not write to:
 * both would stay silent for ever. If it cannot be asked, nothing is reported.
 */
async function reportMismatches({ world, settings, live, state, firstRun }: Job): Promise<void> {
  const { log, view, manyLogs, dryRun, from } = settings;
  if (firstRun && world.terminal) complain(world, `first run: reads ${log} from the ${from}`);
  if (manyLogs) return;
  const jails = [...view.jails].join();
  const isStill = live !== undefined && world.now() - live.stat.mtimeMs > DAY;
  if (!isStill) delete state.failures["quiet"];
  for (const [key, ...rows] of [
    [jails && `jails ${jails}`, ROWS.jails],
    [isStill && !dryRun && "quiet", ROWS["log target"], ROWS.log],
  ] as const) {
    const now = world.now();
    if (!key || wasAskedToday(state, key, now)) continue;
    const seen = await askPing(world, settings);
    const found = await Promise.all(rows.map((look) => faultOr(66, () => look(seen))));
    const fault = found.find((each) => each instanceof Fault);
    if (fault && !state.failures[key]?.exitCode) complain(world, fault.message, fault.hint);
    const exitCode = (world.heard && fault?.exitCode) || 0;
    state.failures[key] = { since: now, told: now, exitCode };
  }
}

function wasAskedToday({ failures }: State, key: string, now: number): boolean {
  const { told } = failures[key] ?? { told: -Infinity };
  return told <= now && now - told < DAY;
}

/**
 * Whether nothing is new for these destinations: seen without the lock, from a few KiB of a log of
 * any size. Nearly every run ends here, so that it does without the schemas. Throws what a pass
 * meets again and reports: a closed log, a state of a wrong shape.
 */
function nothingNew(world: World, log: string, state: State, names: readonly string[]): boolean {
  if (state.log !== log || state.failures["log"]) return false;
  using live = openLive(world, log);
  if (!live) return false;
  const now = world.now();
  // Nothing was written for a day: fail2ban may log elsewhere.
  if (now - live.stat.mtimeMs > DAY && !wasAskedToday(state, "quiet", now)) return false;
  const snapshot = ifPossible(() => listSiblings(world, log))?.snapshot;
  return names.every((name) => {
    const progress = state.destinations[name];
    if (!progress || progress.outbox || (progress.notice && !progress.gap)) return false;
    const { cursor, listing, held, gap } = progress;
    const isHere = cursor !== undefined && live.matches(cursor);
    // In a rotated file, or lost and reported: only a new line in the log is news.
    if (listing !== snapshot || (!isHere && cursor && !held && !gap)) return false;
    const from = isHere ? cursor.offset : 0;
    // A whole line, or more than a glance shows, is news.
    const glance = 64 * 1024;
    return live.size - from <= glance && !live.read(from, glance).includes(NEWLINE);
  });
}

/** Whether the running run hangs: for so long it has not removed a mark; absent if it does not. */
function hungRun(world: World, settings: Settings) {
  const mark = world.fs.statSync(`${statePathOf(settings)}.mark`, { throwIfNoEntry: false });
  const now = world.now();
  if (!mark || now - mark.mtimeMs < settings.maxTime * SECOND + MINUTE) return undefined;
  const { mtime, mtimeMs, atimeMs } = mark;
  const why = `another run has been in progress for ${durationText(now - mtimeMs)}`;
  // The access time says when that was last reported: hourly.
  return { why, mtime, isNews: atimeMs <= mtimeMs || now - atimeMs >= HOUR };
}

/**
 * Sends what is new and exits: a session for each log, and another while the log changes or a run
 * was turned away meanwhile. A run leaves its mark before it tries the lock; the holder removes the
 * mark before it reads the log, and checks for a new one after it released the lock. So a line that
 * existed when a run started is delivered by that run or by one still in progress.
 */
async function pass(world: World, settings: Settings): Promise<number> {
  const { dryRun, verbose, ping, deadline, services } = settings;
  if (settings.databaseNamed) databaseOf(world, settings);
  const logs = findLogs(world, settings);
  checkStateDirectory(world, settings.state, !dryRun);
  const pinged = ping ? await notifyPing(world, settings) : 0;
  if (pinged === 73) return pinged;
  const names = services.map(({ name }) => name);
  // Logs saved longest ago come first, so a run continues where the last one stopped.
  const savedMs = (own: Settings) =>
    ifPossible(() => world.fs.statSync(statePathOf(own)).mtimeMs) ?? 0;
  logs.sort((one, other) => savedMs(one) - savedMs(other));
  const watched = await onEachLog(world, logs, async (own) => {
    if (dryRun) return (await session(world, own, newLines))?.exitCode ?? 0;
    const saved = lastState(world, statePathOf(own));
    if (saved && ifPossible(() => nothingNew(world, own.log, saved, names))) {
      if (verbose || world.terminal) world.writeError(`f2b-watch: nothing new in ${own.log}\n`);
      return 0;
    }
    // Other logs took all the time: the next run does the rest.
    if (world.now() >= deadline) return 75;
    const markPath = `${statePathOf(own)}.mark`;
    writePrivate(world, markPath, 0, "");
    let exitCode = 0;
    // After the log changed 20 times it is left to the next run.
    for (let changes = 0; changes < 20;) {
      const ended = await session(world, own, newLines);
      if (!ended) {
        if (world.terminal) complain(world, "another run is in progress and sends what is new");
        const hung = hungRun(world, own);
        if (hung?.isNews) {
          complain(world, hung.why, "f2b-watch check names its process");
          // That run may be removing it.
          ifPossible(() => world.fs.utimesSync(markPath, world.now() / SECOND, hung.mtime));
        }
        return exitCode;
      }
      ({ exitCode } = ended);
      if (!ended.logChanged && !world.fs.existsSync(markPath)) return exitCode;
      if (world.now() >= deadline || world.stopping.aborted) break;
      changes = ended.logChanged ? changes + 1 : 0;
      if (ended.logChanged) await world.sleep(100);
    }
    return worstExit([exitCode, 75]);
  });
  return worstExit([pinged, watched]);
}

/**
 * Asks whether fail2ban answers; each destination is notified once when it did not for a minute,
 * and once when it does again, unless another run is in progress.
 */
async function notifyPing(world: World, settings: Settings): Promise<number> {
  const { host, services } = settings;
  const answer = await faultOr(66, () => askClient(world, "ping"));
  const isDown = answer instanceof Down;
  const fault = answer instanceof Fault && !isDown ? answer : undefined;
  const { channels = {}, failures = {} } = lastState(world, statePathOf(settings)) ?? {};
  const isKnown = services.some(({ name }) => channels[name]?.down) || failures["ping"];
  if (!isDown && !fault && !isKnown) return 0;
  const at = world.now();
  const work: Work = (job, destination) => {
    if (fault) return undefined;
    const channel = job.channel(destination.name);
    const { since, told } = channel.down ?? { since: at, told: false };
    const isNews = isDown ? !told && at - since >= MINUTE : told;
    const down = isDown ? { since: Math.min(since, at), told: told || isNews } : undefined;
    const remember = () => (channel.down = down);
    const age = durationText(Math.max(0, at - since));
    const words = isDown
      ? `⚠️ ${host}: fail2ban has not answered for ${age}: its socket cannot be reached`
      : `✅ ${host}: fail2ban answers again, after ${age}`;
    if (isNews) return textSource(job, destination, words, "", remember);
    remember();
    return undefined;
  };
  settings.facts.news.set("ping", fault);
  const ended = await session(world, settings, work);
  return worstExit([fault?.exitCode ?? 0, ended?.exitCode ?? 0]);
}

/**
 * Sends something other than the log's lines, under the same lock. A run that found the lock taken
 * left its lines to us, so a pass follows.
 */
async function sendBeside(world: World, settings: Settings, work: Work): Promise<number> {
  checkStateDirectory(world, settings.state, !settings.dryRun);
  const ended = await session(world, settings, work, true);
  const exitCode = ended?.exitCode ?? 75;
  const isMarked = world.fs.existsSync(`${statePathOf(settings)}.mark`);
  if (settings.dryRun || !isMarked) return exitCode;
  return worstExit([exitCode, await pass(world, { ...settings, ping: false })]);
}

/** The logs that `--log` names, each with its own settings; without wildcards one, there or not. */
function findLogs(world: World, settings: Settings): Settings[] {
  const { log: path, manyLogs } = settings;
  let logs = [path];
  if (manyLogs) {
    // A log that was rotated away and not created again is still a log; by its packed or dated
    // files alone, as those of a host that is gone, only if it was read before.
    const wasRead = (log: string) => world.fs.existsSync(statePathOf({ ...settings, log }));
    const rotated = world.fs
      .globSync(`${path}{.1,.1.*,-[0-9]*}`)
      .map((name) => name.replace(/(?:\.1|-\d[\d._-]*)(?:\.\w+)?$/, ""))
      .filter((log) => world.fs.existsSync(`${log}.1`) || wasRead(log));
    const found = [...new Set([...world.fs.globSync(path), ...rotated])].sort();
    // A file whose own name has a wildcard is one log if nothing else matches.
    if (found.length === 0 && world.fs.existsSync(path)) found.push(path);
    if (found.length === 0) throw logMissing(settings);
    logs = found.filter((log) => !found.some((one) => siblingName(one, log)?.isStranger === false));
  }
  return logs.map((log) => {
    const host = settings.hostFor(basename(dirname(log)));
    return { ...settings, log, host, isFound: log !== path || settings.isFound };
  });
}

/** Reports what went wrong in one line; returns the exit status. */
async function exitCodeOf(world: World, work: () => Promise<number>): Promise<number> {
  const ended = await faultOr(70, work);
  if (!(ended instanceof Fault)) return ended;
  if (ended.message !== "") complain(world, ended.message, ended.hint);
  return ended.exitCode;
}

/** Works on each log, even after one fails; a request to stop ends it. */
async function onEachLog(world: World, logs: Settings[], work: (own: Settings) => Promise<number>) {
  let exitCode = 0;
  for (const own of logs) {
    if (own !== logs[0] && world.stopping.aborted) return worstExit([exitCode, 75]);
    exitCode = worstExit([exitCode, await exitCodeOf(world, () => work(own))]);
  }
  return exitCode;
}

// ── The pass: plan ──────────────────────────────────────────────────────────────────────────────
// Where each destination continues, and what must be said when lines may be missing.

/** With those that are noted now behind those that were known. */
function mergeFinished(known: readonly Anchor[], more: readonly Anchor[]): Anchor[] {
  const marks = new Set(more.map(placeMark));
  return [...known.filter((anchor) => !marks.has(placeMark(anchor))), ...more];
}

/** What was noted now, of files that are there, and some of others. */
function latest<Noted>(all: readonly Noted[], now: number): Noted[] {
  return all.slice(-Math.max(400, now));
}

/** Whether nothing was rotated or truncated since the files of a plan were opened. */
function isSettled({ world, settings, live }: Job, siblings: LogFiles): boolean {
  const path = rotationPath(world, settings.log);
  const isSame = ifPossible(() => {
    const isWhole = !live || world.fs.fstatSync(live.descriptor).size >= live.size;
    const now = world.fs.statSync(path, { throwIfNoEntry: false });
    return isWhole && (now && inodeOf(now)) === (live && inodeOf(live.stat));
  });
  return siblings.isSettled && isSame === true;
}

/** How lines become text, and in pages of how many bytes. */
function feedView({ settings }: Job, destination: Destination) {
  const { encode, colors, markup, overflow, plain, limit } = destination;
  const { host, link } = settings;
  const view = { ...settings.view, color: colors };
  const isWhole = showsAll(view) || view.format === "events";
  const room = limit - plain(RESENT_MARK, "").length;
  const style = { host, markup, link, overflow, room };
  // Where lines are left out, a page is larger, so that messages are full all the same.
  return { view, style, pageBytes: isWhole ? PAGE_BYTES : 1024 * 1024, encode };
}

type ReadPlan = Awaited<ReturnType<typeof planFor>>;

/** Plans what one destination reads, and notes in its progress what must be said before that. */
async function planFor(job: Job, destination: Destination, progress: Progress) {
  const { world, live, settings } = job;
  const { cursor, total, known = [], listing } = progress;
  const { trail = [] } = cursor ?? {};
  // The files, and what is unread of them; siblings are opened only if they or the log changed.
  const isHere = live !== undefined && cursor !== undefined && live.matches(cursor);
  const isSame =
    isHere && listing === ifPossible(() => listSiblings(world, settings.log))?.snapshot;
  const nothing: Plan = { isGap: false, resumes: false, segments: [], done: [] };
  let [files, siblings, plan] = [live ? [live] : [], NO_SIBLINGS, nothing];
  if (isSame)
    plan = { ...plan, segments: [{ file: live, from: cursor.offset, sent: 0, isDone: false }] };
  for (const all of isSame ? [] : [false, true]) {
    // A first dry run notes no ends, so it must not see what it would read behind them.
    if (!job.firstRun || !settings.dryRun) siblings = await job.siblings(all);
    files = live ? [...siblings.open, live] : [...siblings.open];
    // The first states did not know all siblings: what is older than their place is done.
    const at = cursor && !progress.known ? files.findLastIndex((file) => file.matches(cursor)) : 0;
    plan = planRead(progress, files.slice(Math.max(0, at)));
    // What is done may hold the position all the same.
    if (!plan.isGap || siblings.keys.length === 0) break;
  }
  job.logChanged ||= !isSettled(job, siblings);
  if (job.logChanged) plan = nothing;
  else if (!live && plan.segments.length === 0) throw logMissing(settings);
  const steps = plan.segments.map(({ file, from }) => `${file.name} from ${from}`);
  say(job, `${plan.isGap ? "gap" : "read"}: ${steps.join(", ") || "nothing yet"}`);
  // Their ends, to be saved when they were sent, even if a file cannot be read any more by then.
  const last = plan.segments.at(-1)?.file;
  const isDone = (file: OpenFile) => !file.isLive && file.size > 0 && file !== last;
  const ends = new Map(files.filter(isDone).map((file) => [file, file.anchorAt(file.size)]));
  const segments = plan.segments.map((segment) => ({ ...segment, end: ends.get(segment.file) }));
  const [first, ...later] = segments;
  const anchorsAt = (place: "from" | "sent") =>
    later.flatMap((each) => (each[place] > 0 ? each.file.anchorAt(each[place]) : []));
  // Where reading starts: at the cursor, or elsewhere with a new one.
  const start = first?.from ?? 0;
  const proof = cursor?.offset === start && first?.file.matches(cursor) ? cursor : undefined;
  const lines = proof?.lines ?? first?.file.countLines(0, start) ?? 0;
  const isElsewhere = !proof && segments.length === 1 && start > 0;
  // What happened before the first line is in this file, too.
  let older: OpenFile | undefined = first && files[files.indexOf(first.file) - 1];
  const isEarly = isSame && settings.view.format === "events" && start < EVENTS_BYTES;
  // It may have to be unpacked: not for nothing.
  if (isEarly && Batch.earlierMatters.test(latin1(live.read(start, EVENTS_BYTES))))
    older = (await job.siblings()).open.at(-1);
  const missing = findMissing(job, plan, progress, siblings);
  const named = [...siblings.keys.filter((key) => key !== last?.key), ...missing.named];
  const isOver = (key: string) =>
    named.includes(key) || (key === UNLISTED && siblings.snapshot !== undefined);
  // What was sent of other files is not forgotten when the cursor moves, nor where it was.
  const sent = [...anchorsAt("sent"), ...plan.done.flatMap((file) => ends.get(file) ?? [])];
  if (plan.isGap && cursor) {
    const { offset, lastLineHash, headHash } = cursor;
    sent.push({ offset, lastLineHash, headHash });
  }
  progress.finished = mergeFinished(progress.finished, sent);
  if (missing.notice) progress.notice = missing.notice;
  if (missing.isLost) progress.gap = true;
  return {
    ...{ segments, older, trail, shows: feedView(job, destination) },
    from: { segment: 0, offset: start, lines, total, cursor: proof },
    // The cursor where reading starts, if it is a new one: saved even if nothing is read.
    startCursor: isElsewhere ? first?.file.cursorAt(start, lines, total, trail) : undefined,
    // Once the plan is carried out, all that the siblings hold is done or stale, also where another
    // file holds it.
    ends: [...ends.values(), ...anchorsAt("from")],
    listing: siblings.snapshot ?? listing,
    known: latest([...known.filter((key) => !isOver(key)), ...named], named.length),
  };
}

const LOG_HINT = "fail2ban-client get logtarget shows where fail2ban writes; pass that to --log";

function logMissing({ log, manyLogs, isFound }: Settings): Fault {
  const isGlob = manyLogs && !isFound;
  const why = isGlob ? `no log matches ${log}` : `cannot read ${log}: no such file or directory`;
  return new Fault(66, why, LOG_HINT);
}

/** The log's last lines, as text that the grammar can read. */
function lastLines(live: OpenFile): string[] {
  const start = lineStartAfter(live, live.size - SEARCH_BYTES);
  return linesOf(visible(decoded(live.read(start, live.size - start))));
}

/**
 * What may be missing: the notice of it, whether the position is lost, and the keys of the files
 * that are named in it, or need not be, so that each is named once.
 *
 *   the position is lost                                               a notice
 *   …, but the log had been sent to its end and was emptied since      none
 *   …, but a file that cannot be read is the log that had been sent    none
 *   a file that cannot be read is younger than the first that can      a notice that names it
 *   a file that is read is damaged behind its beginning                a notice that names it
 */
function findMissing(
  { live, settings }: Job,
  { isGap, resumes, segments }: Plan,
  progress: Progress,
  { leftOut }: LogFiles,
) {
  const { cursor, known = [], drained = { file: "", writtenMs: NaN } } = progress;
  const first = segments[0]?.file;
  const unreadable = leftOut.filter(
    ({ reportKey }) => reportKey === UNLISTED || !known.includes(reportKey),
  );
  // Compressing keeps the time when a file was last written; bzip2 keeps the second.
  const sentMs = [drained.writtenMs, drained.writtenMs - (drained.writtenMs % SECOND)];
  const isSent = isGap && unreadable.some(({ writtenMs }) => sentMs.includes(writtenMs));
  const isNew = (file: OpenFile | undefined) =>
    file?.firstTime
      ? file.firstTime > (cursor?.lastTime ?? "")
      : !segments.some((segment) => segment.file === file && segment.from > 0);
  const oldestWhole = segments.find(({ file, from }) => file.isLive || from === 0)?.file ?? live;
  const isEmptied = drained.file === live?.identity && isNew(oldestWhole) && isNew(live);
  const isLost = isGap && !isSent && !isEmptied;
  const missed = unreadable.filter(({ number, writtenMs }) => {
    if (isGap) return !isSent;
    if (first?.isLive !== false) return false;
    // By number, else by when it was written.
    if (number === undefined || first.number === undefined) return writtenMs >= first.writtenMs;
    return number < first.number;
  });
  const damaged = segments.flatMap(({ file: { name, why, key = name } }) =>
    why && !known.includes(`told ${key}`) ? [{ name, why, reportKey: `told ${key}` }] : [],
  );
  const unread = [...damaged, ...missed].map(withReason);
  let details = cursor ? ` after line ${cursor.lines}` : "";
  if (cursor?.lastTime) details += ` (${cursor.lastTime})`;
  if (resumes) details += "; it was cut short or edited, continuing after its last known line";
  if (unread.length > 0) details += `; not read: ${neutralise(fitting(unread, 250))}`;
  return {
    notice: isLost || unread.length > 0 ? gapNotice(settings, details) : undefined,
    isLost,
    named: [...unreadable, ...damaged].map(({ reportKey }) => reportKey),
  };
}

function gapNotice({ host, log }: Settings, details: string): string {
  return `⚠️ ${host}: lines of ${neutralise(basename(log))} may be missing${details}\n`;
}

/** A new destination begins where the furthest other one stands, else at the log's start or end. */
async function startProgress(job: Job): Promise<Progress> {
  const { live, settings } = job;
  const blank = { total: 0, finished: [], known: [], gap: false };
  const [furthest] = Object.values(job.state.destinations).toSorted((a, b) => b.total - a.total);
  if (furthest) {
    const { cursor, total, finished, gap, held, known, listing, drained } = furthest;
    return structuredClone({ total, finished, known, gap, cursor, held, listing, drained });
  }
  if (job.stateLost) {
    const details = " or repeated: the state was damaged, so the last position is unknown";
    return { ...blank, notice: gapNotice(settings, details) };
  }
  const { open, keys, leftOut } = settings.dryRun ? NO_SIBLINGS : await job.siblings();
  const files = live ? [...open, live] : open;
  // The end of a copy of something longer is not the end of what it is a copy of.
  const finished = open
    .filter((file) => file.size > 0 && !file.isCopyIn(files))
    .map((file) => file.anchorAt(file.size));
  const known = [...keys, ...leftOut.map(({ reportKey }) => reportKey)];
  const seen = { ...blank, finished, known };
  if (!live?.hasLine()) return seen;
  const end = settings.from === "end" ? live.lastLineEnd() : 0;
  return { ...seen, cursor: live.cursorAt(end, live.countLines(0, end)) };
}

// ── The pass: lines ─────────────────────────────────────────────────────────────────────────────
// The log as clean lines, a page at a time, cut into messages; which bytes each of them stands for.
// Places are plain values: who looks ahead keeps the place that it came from. The words for them:
//   Anchor    a byte of a file, proved by hashes of what stands before it            saved
//   Cursor    an anchor with what finds it again in a log that was edited            saved
//   Doubt     lines and characters behind the cursor that may have arrived           saved
//   Segment   the unread bytes of a file, by the plan
//   Position  a byte of a segment, with the lines before it: reading continues there
//   Page      lines that were read together: of one file, or of each that ends within them
//   Spot      a character of a page as it is shown: the next message begins there

/** So much of the log makes one batch of events: in more may be as many bans as memory holds. */
const BATCH_BYTES = 1024 * 1024;
/** So far back the failures before a ban are looked for. */
const EVENTS_BYTES = 4 * 1024 * 1024;

interface Position {
  readonly segment: number;
  readonly offset: number;
  /** Lines before it: in its file, and ever read. */
  readonly lines: number;
  readonly total: number;
  /** What proves it: the bytes before it as they were read, or a cursor. */
  readonly before?: Uint8Array | undefined;
  readonly cursor?: Cursor | undefined;
}

interface Page {
  readonly from: Position;
  /** Where its text begins, behind fillers and files without lines, and where each file's ends. */
  readonly start: Position;
  readonly ends: readonly Position[];
  readonly text: string;
  readonly isLast: boolean;
}

interface Spot {
  readonly page: Page;
  readonly shown: ReturnType<typeof showLines>;
  readonly at: number;
  /** What earlier messages carried of the line. */
  readonly part?: Progress["part"];
  /** Shown are words for a batch that is behind it; with them goes `file`, and `warned` is kept. */
  readonly words?:
    { readonly file?: string | undefined; readonly warned?: Progress["warned"] } | undefined;
}

/**
 * The lines of a plan. Knows which bytes each message stands for, and proves them from what it
 * read, because the file may be truncated while messages are sent.
 */
class Feed {
  shows: ReadPlan["shows"];
  readonly #job: Job;
  readonly #plan: ReadPlan;
  #trail: Cursor["trail"];

  constructor(job: Job, plan: ReadPlan) {
    const { shows, trail } = plan;
    [this.shows, this.#job, this.#plan, this.#trail] = [shows, job, plan, trail];
  }

  /** Where more of the log is shown, with as much behind it as tells whether it fits a message. */
  next(spot: Spot, room: number): Spot {
    const { page, shown, at, part } = spot;
    if (isEnough(spot, room)) return spot;
    if (at < shown.text.length) return this.#open(positionOf(spot), part);
    const end = page.ends.at(-1) ?? page.from;
    return page.isLast ? spotAt(end, "", true) : this.#open(end, part);
  }

  #open(from: Position, part: Progress["part"]): Spot {
    const { view, encode, pageBytes } = this.shows;
    const page = this.#read(from, pageBytes);
    const context = showsAll(view) ? new LogContext() : this.#contextOf(page.start, view);
    const shown = showLines(page.text, view, context, encode);
    if (!part) return { page, shown, at: 0 };
    // A date that stands for no line: what goes on may be the line behind it.
    const second = shown.text.indexOf("\n") + 1;
    const start = shown.left(second) === shown.left(0) ? second : 0;
    if (part.line !== lineMark(shown.text, start)) return { page, shown, at: 0 };
    return { page, shown, at: start + part.sent, part };
  }

  /** The next batch, and the place behind it; absent at the end. */
  readBatch(from: Position, before: Batch["seen"] | undefined) {
    const { view } = this.shows;
    let [batch, after]: [Batch | undefined, Position] = [undefined, from];
    let [pages, length] = [0, 0];
    for (let isOver = false; !isOver;) {
      const page = this.#read(after, PAGE_BYTES);
      const end = page.ends.at(-1);
      if (!end) break;
      batch ??= new Batch(view, before ?? this.#seenBefore(page, view));
      batch.read(linesOf(page.text));
      length += page.text.length;
      isOver = page.isLast || length >= BATCH_BYTES;
      // In every fourth page also for the lines that are known of those before it.
      const isKept = ++pages % 4 === 0 || isOver;
      after = isKept ? { ...end, before: undefined, cursor: this.cursorOf(end) } : end;
    }
    return batch && { batch: batch.finish(), after };
  }

  #read(from: Position, pageBytes: number): Page {
    const ends: Position[] = [];
    let [text, left, start, place, isLast] = ["", pageBytes, from, from, false];
    while (left > 0) {
      const stretch = this.#readStretch(place, left);
      if (stretch) {
        const { offset, lead, bytes } = stretch;
        const clean = this.#clean(bytes.subarray(lead));
        if (ends.length === 0) start = { ...place, offset };
        const [lines, length] = [countLines(clean), bytes.length - lead];
        place = {
          segment: place.segment,
          offset: offset + length,
          lines: place.lines + lines,
          total: place.total + lines,
          before: bytes,
        };
        ends.push(place);
        text += clean;
        left -= length;
        if (place.offset < (this.#plan.segments[place.segment]?.file.size ?? 0)) break;
      }
      const segment = place.segment + 1;
      const next = this.#plan.segments[segment];
      isLast = !next || this.#job.logChanged;
      if (!next || isLast) break;
      place = { segment, offset: next.from, lines: 0, total: place.total };
    }
    return { from, start, ends, text, isLast };
  }

  /** What the last 4 MiB before a page tell of its bans, in its file and in the one before. */
  #seenBefore({ start, text, isLast }: Page, view: View): Batch["seen"] {
    const context = this.#contextOf(start, view);
    if (isLast && !Batch.earlierMatters.test(text)) return { ...new Batch(view).seen, context };
    const { segment, offset } = start;
    const older = segment === 0 ? this.#plan.older : this.#plan.segments[segment - 1]?.file;
    const lengthHere = Math.min(offset, EVENTS_BYTES);
    const before = this.#textBefore(older, older?.size ?? 0, EVENTS_BYTES - lengthHere);
    const here = this.#textBefore(this.#plan.segments[segment]?.file, offset, lengthHere);
    const { seen } = new Batch(view).read((before + here).split("\n")).finish();
    return { ...seen, context };
  }

  #textBefore(file: OpenFile | undefined, end: number, most: number): string {
    const length = Math.min(end, most);
    return file && length > 0 ? this.#clean(file.readBefore(end, length)) : "";
  }

  /** What the lines before a page say about its first ones. */
  #contextOf({ segment, offset }: Position, { lastDay }: View): LogContext {
    const readBefore = (most: number) => {
      const lines = linesOf(this.#textBefore(this.#plan.segments[segment]?.file, offset, most));
      return new LogContext({ lastDay }).readAll(offset <= most ? lines : lines.slice(1));
    };
    const near = readBefore(ANCHOR_TAIL_BYTES);
    const silent = near.records.every((record) => ["unban", "other"].includes(record?.kind ?? ""));
    // A stop with many bans: what says that it is one stands further up.
    return (silent ? readBefore(EVENTS_BYTES) : near).after;
  }

  /** Bytes without a line end, a dead file's fragment or an endless line's piece, are marked. */
  #clean(bytes: Uint8Array): string {
    const text = cleanText(bytes, this.#job.settings.ownSecrets);
    return bytes.length === 0 || bytes.at(-1) === NEWLINE ? text : `${text}${CUT_MARK}\n`;
  }

  /**
   * Whole lines from a position on, at most `length` bytes if they have one, and in front of them
   * `lead` bytes of what stands before `offset`; absent at the end.
   */
  #readStretch({ segment, offset: from, before, cursor }: Position, length: number) {
    const { file, isDone = false } = this.#plan.segments[segment] ?? {};
    if (!file) return undefined;
    const offset = behindRemains(file, from);
    const lead = Math.min(offset, ANCHOR_LINE_BYTES + 1);
    // A longer line is read in pieces, so that memory stays bounded.
    const longest = 8 * 1024 * 1024;
    for (let most = Math.max(length, PAGE_BYTES); ; most *= 4) {
      const wanted = Math.min(most, longest, file.size - offset);
      const bytes = file.read(offset - lead, lead + wanted);
      // The file must begin as when it was opened, and go on behind what was read of it.
      const head = bytes.subarray(0, file.head.length);
      const isReplaced = offset === lead && Buffer.compare(head, file.head) !== 0;
      const isNear = offset === from;
      const here = isNear ? bytes.subarray(0, lead) : file.readBefore(from, ANCHOR_LINE_BYTES + 1);
      const both = Math.min(here.length, before?.length ?? 0);
      const isMoved = before
        ? Buffer.compare(here.subarray(-both), before.subarray(-both)) !== 0
        : cursor !== undefined && !sameAnchor(cursor, file.anchorAt(from, here));
      if (bytes.length < lead + wanted || isReplaced || isMoved) {
        this.#job.logChanged = true;
        return undefined;
      }
      const end = bytes.lastIndexOf(NEWLINE) + 1;
      if (end > lead) return { offset, lead, bytes: bytes.subarray(0, end) };
      const isAtEnd = offset + wanted >= file.size;
      if (isAtEnd) return isDone && wanted > 0 ? { offset, lead, bytes } : undefined;
      if (wanted === longest || bytes.at(-1) === 0)
        return { offset, lead, bytes: bytes.subarray(0, pieceEnd(bytes)) };
    }
  }

  /** What proves a position; absent at the beginning of a file. */
  cursorOf({ segment, offset, lines, total, before, cursor }: Position): Cursor | undefined {
    const file = this.#plan.segments[segment]?.file;
    if (cursor || !file || offset === 0) return cursor;
    const made = file.cursorAt(offset, lines, total, this.#trail, before);
    this.#trail = made.trail ?? [];
    return made;
  }
}

/** Where text begins behind a hole, or behind what a cut left of a time before a whole one. */
function behindRemains(file: OpenFile, from: number): number {
  const near = file.read(from, 48);
  const cutTime = /^([\d :,-]{1,22}?)\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} /;
  const cut = cutTime.exec(latin1(near))?.[1] ?? "";
  const isTime = "0000-00-00 00:00:00,00".startsWith(cut.replace(/\d/g, "0"));
  if (near[0] !== 0) return isTime ? from + cut.length : from;
  const zeros = Buffer.alloc(PAGE_BYTES);
  let offset = from;
  for (const block of file.blocks(from)) {
    const isHole = Buffer.compare(block, zeros.subarray(0, block.length)) === 0;
    if (!isHole) return offset + block.findIndex((byte) => byte !== 0);
    offset += block.length;
  }
  return offset;
}

/** Where a line that is not read to its end is cut: at a hole, a space or else a character. */
function pieceEnd(bytes: Uint8Array): number {
  if (bytes.at(-1) === 0) return bytes.findLastIndex((byte) => byte !== 0) + 1;
  const space = bytes.lastIndexOf(0x20) + 1;
  if (space > bytes.length - ANCHOR_LINE_BYTES) return space;
  const character = bytes.findLastIndex((byte) => (byte & 0xc0) !== 0x80);
  return Math.max(character, bytes.length - 4);
}

/** A spot at which nothing of the log is read yet, but words may wait. */
function spotAt(from: Position, text = "", isLast = false): Spot {
  const page = { from, start: from, ends: [], text: "", isLast };
  return { page, shown: { text, left: () => 0, continues: () => false }, at: 0 };
}

/** Whether a message can be cut here: what stands at a page's end begins the next one. */
function isEnough(spot: Spot, room: number): boolean {
  const { page, shown, at, words } = spot;
  const left = shown.text.length - at;
  if (left > 2 * room) return true;
  return left > 0 && (page.isLast || !!words || at === 0 || totalAt(spot) === page.from.total);
}

/** How many lines were ever read before a spot. */
function totalAt({ page: { from, ends }, shown, at }: Spot): number {
  return (ends.at(-1) ?? from).total - shown.left(at);
}

/** The position of a spot: within a file's stretch it is counted from its end. */
function positionOf(spot: Spot): Position {
  const { from, ends } = spot.page;
  const total = totalAt(spot);
  const end = total > from.total && ends.find((each) => total <= each.total);
  if (!end) return from;
  const { before = new Uint8Array() } = end;
  let length = before.length;
  for (let line = end.total; line > total; line--)
    length = before.lastIndexOf(NEWLINE, length - 2) + 1;
  const offset = end.offset - before.length + length;
  const lines = end.lines - end.total + total;
  return { segment: end.segment, offset, lines, total, before: before.subarray(0, length) };
}

/** The next message that fits `room`, or `most` if a line fits whole, and the place behind it. */
function cutAt(
  { page, shown, at, part, words }: Spot,
  room: number,
  maxLines: number,
  most = room,
) {
  const { text, continues } = shown;
  let cut = cutText(text, at, room, maxLines, continues);
  if (cut.partOfLine && most > room) {
    const whole = cutText(text, at, most, maxLines, continues);
    if (!whole.partOfLine) cut = whole;
  }
  const { body, taken, partOfLine } = cut;
  const after: Spot = { page, shown, at: at + taken, words };
  if (!partOfLine) return { body, partOfLine, after };
  // Where the line begins is known: to look for it takes long in a long one.
  const { sent, line } = part ?? { sent: 0, line: lineMark(text, at) };
  return { body, partOfLine, after: { ...after, part: { sent: sent + taken, line } } };
}

/** Tells a line from others; of a long one its beginning does. */
function lineMark(text: string, start: number): string {
  return fingerprint(text.slice(start, start + ANCHOR_LINE_BYTES).replace(/\n[^]*/, ""));
}

// ── The pass: messages ──────────────────────────────────────────────────────────────────────────
// One at a time, until the destination has it or permanently refuses it; each saves the cursor.

interface Message {
  readonly content: string;
  readonly file?: AttachedFile | undefined;
  /** Lines that may be sent apart from each other. */
  readonly lines: number;
  /** Of the log: what it shows, and the place behind that. */
  readonly shown?: readonly string[];
  readonly after?: Spot;
}

/** Where messages come from; it keeps the place of the next one. */
interface Source {
  /** The next message, which may have arrived already; absent when everything was said. */
  next(isUnclear: boolean): Message | undefined | Promise<Message | undefined>;
  /** Before it is posted. */
  begin(message: Message): void;
  /** After an answer; without one it may have arrived all the same, and what comes again is marked. */
  answered(): void;
  /** It has arrived. */
  done(message: Message): void;
  /** It is refused by itself: what comes next is less of it, or what is behind it; may throw. */
  refused(message: Message, verdict: Verdict): void;
  /** Whether anything was left behind, sent or not. */
  readonly hasMoved?: boolean;
  /** What waits, in words; empty when nothing does. */
  waiting?(): string;
}

/** The run was asked to stop before the next message was found: nothing to report. */
const STOPPED = new Fault(75, "", "check again");

const TIME_IS_UP = "time is up, the next run continues";

/**
 * Posts a source's messages one by one, each until the destination has it or refuses it
 * permanently. Returns how many arrived; throws what stops it.
 */
async function deliver(job: Job, destination: Destination, source: Source): Promise<number> {
  const { world, deadline } = job;
  const { title, settings } = destination;
  const { host, dryRun, prints } = job.settings;
  await using printed = printer(world, job.settings);
  let [sent, sender]: [number, string | undefined] = [0, discordName(host)];
  /** How often each verdict came for this message. */
  let tries: Partial<Record<Verdict["kind"], number>> = {};
  for (;;) {
    // Waited for only where it must be: a log of 300 MB is 150,000 messages to print.
    const next = source.next(tries.unclear !== undefined);
    const message = next instanceof Promise ? await next : next;
    if (!message && dryRun)
      complain(world, `dry run: ${amount(sent, "message")} for ${title}, none sent`);
    if (!message) return sent;
    if (!prints || world.now() >= deadline) await takeTurn(job, destination, sent);
    if (world.stopping.aborted) throw STOPPED;
    if (!dryRun) source.begin(message);
    if (prints) {
      const full = printed.add(message);
      if (full) await full;
      sent++;
      source.done(message);
      continue;
    }
    const call = destination.compose(message.content, sender, message.file);
    const verdict = await post(world, destination, call, deadline - world.now());
    const { kind, why, hint } = verdict;
    const channel = notePost(job, destination, verdict);
    if (kind !== "unclear") source.answered();
    if (kind === "confirmed" || kind === "unproven") {
      [sent, tries] = [sent + 1, {}];
      delete channel.pause;
      source.done(message);
      showProgress(job, `${title}: ${sent} sent`);
    } else if (kind === "refused" || kind === "tooLarge") {
      tries = {};
      delete channel.pause;
      source.refused(message, verdict);
    } else if (kind === "badName" && sender !== undefined) {
      sender = undefined;
    } else {
      const now = world.now();
      const tried = tries[kind] ?? 0;
      const afterMs = retryDelayMs(verdict, tried, 50 + Math.floor(world.random() * 200));
      const isOver = now + afterMs >= deadline;
      const { pause: last } = channel;
      if (isOver || kind === "limited")
        channel.pause = pauseFor(verdict, now, afterMs, settings, last) ?? last;
      if (isOver) throw new Fault(VERDICTS[kind][0], `${title}: ${why}`, hint);
      tries[kind] = tried + 1;
      showProgress(job, `${title}: ${why}, again in ${Math.ceil(afterMs / SECOND)} s`);
      // For the next run, if this one is ended meanwhile.
      job.save();
      await world.sleep(afterMs);
      if (world.stopping.aborted) throw STOPPED;
      channel.pause = last;
    }
  }
}

/** Waits until the next message may be posted; throws what stops it. */
async function takeTurn(job: Job, destination: Destination, sent: number): Promise<void> {
  const { world, deadline } = job;
  const { name, title, settings, pace } = destination;
  const channel = job.channel(name);
  const now = world.now();
  const pause = pauseIn(channel, now, settings);
  if (pause) throw new Fault(pause.exitCode, `${title}: ${pause.why}`, pause.hint);
  const waitMs = turnDelayMs(channel, pace, now);
  // The first message goes out however late it is, or a slow start would never get anywhere.
  if (now + waitMs >= deadline && (sent > 0 || waitMs > 0))
    throw new Fault(75, `${title}: ${TIME_IS_UP}`);
  if (waitMs === 0) return;
  showProgress(job, `${title}: ${sent} sent, next in ${Math.ceil(waitMs / SECOND)} s`);
  await world.sleep(waitMs);
}

/** Remembers a post for the pace; reports once that a destination does not confirm messages. */
function notePost(job: Job, { name, title }: Destination, { kind, delayMs }: Verdict): Channel {
  const { world, state } = job;
  const channel = job.channel(name);
  const now = world.now();
  const isRecent = (at: number) => at <= now && now - at < MINUTE;
  channel.posts = [...channel.posts, now].filter(isRecent);
  channel.asked = delayMs && delayMs > 0 ? { at: now, delayMs } : undefined;
  const key = `${name} unverified`;
  if (kind === "unproven" && !state.failures[key]) {
    complain(world, `${title} accepts messages without confirming them`);
    if (world.heard) state.failures[key] = { since: now, told: now, exitCode: 0 };
  }
  say(job, `${title}: ${kind}`);
  return channel;
}

/** How far it goes behind the cursor: so many lines, and characters of what follows. */
type Doubt = NonNullable<Progress["doubt"]>;

function furtherDoubt(one: Doubt, other: Doubt = one): Doubt {
  return (one.lines - other.lines || one.characters - other.characters) < 0 ? other : one;
}

/** Making a file takes thirty times its size in memory. */
const FILE_BYTES = 4 * 1024 * 1024;

/** One destination's part of a pass: the log's new lines, and what must be said of them. */
class LogSource implements Source {
  readonly #job: Job;
  readonly #destination: Destination;
  readonly #progress: Progress;
  readonly #plan: ReadPlan;
  readonly #feed: Feed;
  /** All before it is done with. */
  #spot: Spot;
  /** The words behind each place that was looked at, and what the last batch says of the next. */
  readonly #worded = new WeakMap<Page, Spot>();
  #seen: Batch["seen"] | undefined;
  /** Whether there is so much that it goes as files; absent until it is known. */
  #flooded: boolean | undefined;
  /** What was in doubt before the message that is being posted. */
  #doubt: Doubt | undefined;
  #refused = 0;
  /** The largest file believed to be accepted. */
  #fileBytes = FILE_BYTES;
  /** The same for all files: strings that live as long as a file does are collected late. */
  #fileMemory: Uint8Array<ArrayBuffer> | undefined;
  /** The next line was refused as text. */
  #asFile = false;

  constructor(job: Job, destination: Destination, progress: Progress, plan: ReadPlan) {
    [this.#job, this.#destination, this.#plan] = [job, destination, plan];
    [this.#progress, this.#feed] = [progress, new Feed(job, plan)];
    const { outbox, part } = progress;
    this.#spot = { ...spotAt(plan.from), part };
    if (outbox) this.#spot = this.#waiting(outbox);
  }

  next(): Message | Promise<Message | undefined> {
    const room = this.#room(this.#spot);
    const isKnown = this.#flooded === false && isEnough(this.#spot, room);
    return isKnown ? this.#nextLines(room) : this.#search();
  }

  async #search(): Promise<Message | undefined> {
    if (!this.#progress.outbox) this.#flooded ??= await this.#isFlood();
    const spot = await this.#nextShown(this.#spot, true);
    if (spot) {
      this.#spot = spot;
      return this.#flooded && !spot.words ? await this.#nextFile() : this.#nextLines();
    }
    const { notice, gap } = this.#progress;
    // What is behind a gap may still be on its way: its notice waits for the first line.
    const isOnItsWay = gap && !this.#plan.startCursor && !this.hasMoved;
    if (!notice || isOnItsWay) return this.#finish();
    return { content: this.#destination.plain(this.#before.trimEnd(), ""), lines: 1 };
  }

  /** Where more is shown, behind what shows nothing, which it `passes`; absent at the end. */
  async #nextShown(from: Spot, passes = false): Promise<Spot | undefined> {
    const { world, deadline, settings } = this.#job;
    const showsLines = settings.view.format !== "events" || this.#flooded === true;
    for (let spot = from; ;) {
      const isDone = spot.at === spot.shown.text.length;
      if (isDone && !showsLines) spot = await this.#nextBatch(spot);
      else if (!spot.words || isDone)
        spot = this.#feed.next(spot, this.#flooded ? 0 : this.#room(spot));
      if (spot.at < spot.shown.text.length) {
        this.#progress.drained = undefined;
        return spot;
      }
      if (passes) this.#moveTo(spot);
      if (spot.page.isLast && spot.page.ends.length === 0) return undefined;
      await world.sleep(0);
      if (world.stopping.aborted) throw STOPPED;
      if (world.now() >= deadline) throw new Fault(75, `${this.#destination.title}: ${TIME_IS_UP}`);
    }
  }

  /** The next batch in words, if it is worth a message; read once, whoever looks ahead. */
  async #nextBatch({ page, words }: Spot): Promise<Spot> {
    const known = this.#worded.get(page);
    if (known) return known;
    const { world, settings } = this.#job;
    const read = this.#feed.readBatch(page.from, this.#seen);
    if (!read) return spotAt(page.from, "", true);
    const { batch, after } = read;
    this.#seen = batch.seen;
    const before = words?.warned ?? this.#progress.warned ?? {};
    const warned = batch.removeRepeats(before, world.now());
    const facts = await lookUpFacts(world, settings, batch.happenings);
    const { text, file } = new Words(this.#feed.shows.style, facts).batch(batch);
    const worded = { ...spotAt(after, text), words: { file, warned } };
    this.#worded.set(page, worded);
    return worded;
  }

  /** Whether what is new takes more messages than a person wants to scroll through. */
  async #isFlood(): Promise<boolean> {
    const { inline } = this.#job.settings;
    if (inline === 0 || this.#destination.overflow === "none") return false;
    let scout = await this.#nextShown(this.#spot, true);
    if (scout && !scout.words) this.#spot = scout;
    for (let messages = 0; scout && messages < inline; messages++)
      scout = await this.#nextShown(cutAt(scout, this.#room(scout), Infinity).after);
    if (!scout) return false;
    const { view } = this.#feed.shows;
    this.#feed.shows = {
      ...this.#feed.shows,
      view: { ...view, format: view.format === "events" ? "raw" : view.format, color: false },
      pageBytes: PAGE_BYTES,
      encode: (text) => text,
    };
    this.#spot = { ...spotAt(positionOf(this.#spot)), part: this.#spot.part };
    return true;
  }

  /** Among many lines the one that is refused is looked for in halves. */
  get #maxLines(): number {
    if (this.#asFile) return 1;
    return Math.ceil((this.#progress.suspects ?? Infinity) / 2);
  }

  /** What stands before the lines. */
  get #before(): string {
    return (this.#progress.notice ?? "") + (this.#progress.doubt ? RESENT_MARK : "");
  }

  /** For lines or words: the mark has its place, so that what is sent again is the same lines. */
  #room({ words }: Spot): number {
    const { fenced, plain, limit } = this.#destination;
    const before = (this.#progress.notice ?? "") + RESENT_MARK;
    return limit - (words ? plain : fenced)(before, "").length;
  }

  /** A message of lines or words; as a file what was refused as text. */
  #nextLines(room = this.#room(this.#spot)): Message {
    const { fenced, plain, markup } = this.#destination;
    const progress = this.#progress;
    const spot = this.#spot;
    const { words, at } = spot;
    if (words && !progress.outbox) {
      // The cursor moves behind the batch, and what is to be said of it is kept.
      const { text } = spot.shown;
      const whole = progress.doubt && { lines: 0, characters: text.length };
      progress.warned = words.warned;
      progress.outbox = { text, sent: 0, ...(words.file ? { file: words.file } : {}) };
      this.#moveTo(spot);
      if (whole) progress.doubt = furtherDoubt(whole, progress.doubt);
    }
    const most = words || progress.doubt ? room : room + RESENT_MARK.length;
    const { body, after } = cutAt(spot, room, this.#maxLines, most);
    const shown = [body, "\n"];
    const before = this.#before;
    if (this.#asFile) {
      const host = nameText(this.#job.settings.host, markup);
      const content = plain(before, `📎 ${host}: a line that is refused as text`);
      return { content, file: this.#logFile(`${body}\n`), lines: 1, shown, after };
    }
    const content = (words ? plain : fenced)(before, body);
    if (words?.file && at === 0)
      return { content, file: { name: "bans.txt", text: words.file }, lines: 1, shown, after };
    // Nothing that is printed is refused.
    const lines = this.#job.settings.prints ? 1 : countLines(body) + 1;
    return { content, lines, shown, after };
  }

  /** The words that wait: the cursor has left their batch behind. */
  #waiting({ text, sent, file }: NonNullable<Progress["outbox"]>): Spot {
    const words = { file, warned: this.#progress.warned };
    return { ...spotAt(this.#spot.page.from, text), at: sent, words };
  }

  /** From the cursor to what is behind a message; a notice by itself has a place of its own. */
  #doubtUntil(after?: Spot): Doubt {
    const { words, at, part } = after ?? this.#spot;
    const characters = words ? at : (part?.sent ?? 0);
    const lines = totalAt(after ?? this.#spot) - this.#progress.total;
    return { lines, characters: after ? characters : characters + 1 };
  }

  #logFile(text: AttachedFile["text"]): AttachedFile {
    return { name: `${basename(this.#job.settings.log, ".log")}.log`, text };
  }

  /** As many lines as a file holds, in one message that says what is in them. */
  async #nextFile(): Promise<Message> {
    const { world, settings } = this.#job;
    const { plain, limit } = this.#destination;
    const isAttached = this.#feed.shows.style.overflow === "file";
    const flood = new Flood(this.#feed.shows.view);
    const memory = (this.#fileMemory ??= new Uint8Array(FILE_BYTES));
    let [spot, bytes, lines, first] = [this.#spot, 0, 0, ""];
    for (;;) {
      const { page, shown, at, part } = spot;
      const [leftBytes, leftLines] = [this.#fileBytes - bytes, this.#maxLines - lines];
      // A few bytes more are not worth a look.
      if (leftBytes <= 100 || leftLines <= 0) break;
      if (at < shown.text.length) {
        // One byte is for the last line's end; in UTF-8 a character may take three.
        let piece = cutAt(spot, leftBytes - 1, leftLines);
        if (Buffer.byteLength(piece.body) >= leftBytes)
          piece = cutAt(spot, Math.floor(leftBytes / 3), leftLines);
        // Where nothing is attached, no line is too long.
        if (piece.partOfLine && !isAttached) piece = cutAt(spot, Infinity, 1);
        if (piece.partOfLine && first) break;
        const text = `${piece.body}\n`;
        first ||= text;
        if (isAttached) encoder.encodeInto(text, memory.subarray(bytes));
        bytes += Buffer.byteLength(text);
        if (!piece.partOfLine) lines += countLines(text);
        // A line is counted where it begins.
        else if (!part) flood.read([shown.text.slice(at, at + ANCHOR_LINE_BYTES)]);
        spot = piece.after;
      }
      // Also what is not shown.
      const read = linesOf(page.text);
      const begin = at === 0 ? 0 : read.length - shown.left(at) + (part ? 1 : 0);
      flood.read(read.slice(begin, read.length - shown.left(spot.at)));
      if (spot.at < shown.text.length || page.isLast) break;
      spot = this.#feed.next(spot, 0);
      await world.sleep(0);
    }
    if (flood.lines === 0) flood.read(linesOf(first));
    const style = { ...this.#feed.shows.style, room: limit - plain(this.#before, "").length };
    const facts = await lookUpFacts(world, settings, flood.shownIds(style));
    const words = new Words(style, facts).flood(flood, settings.log);
    const file = isAttached ? this.#logFile(memory.subarray(0, bytes)) : undefined;
    const content = plain(this.#before, words);
    return { content, file, lines: Math.max(1, lines), shown: [first], after: spot };
  }

  /** Saved before anything is sent: proves that it can be, and marks what a killed run repeats. */
  begin(message: Message): void {
    this.#doubt = this.#progress.doubt;
    this.#progress.doubt = furtherDoubt(this.#doubtUntil(message.after), this.#doubt);
    this.#job.save();
  }

  answered(): void {
    this.#progress.doubt = this.#doubt;
  }

  /** The cursor moves behind the message, on disk before anything else is sent. */
  done(message: Message, notice = ""): void {
    const progress = this.#progress;
    const { after } = message;
    const hadNotice = progress.notice !== undefined && notice === "";
    if (hadNotice && this.#plan.startCursor && !this.hasMoved && !this.#job.settings.dryRun)
      progress.cursor = this.#plan.startCursor;
    this.#asFile = false;
    progress.suspects = Math.max(0, (progress.suspects ?? 0) - message.lines) || undefined;
    progress.notice = notice || undefined;
    if (after) this.#moveTo(after);
    else this.#settle();
    if (after?.words) {
      const { text } = after.shown;
      // A file goes with the first message.
      progress.outbox = after.at < text.length ? { text, sent: after.at } : undefined;
    }
    this.#job.save();
  }

  /** What is before this place is done with. */
  #moveTo(spot: Spot): void {
    const progress = this.#progress;
    this.#spot = spot;
    this.#settle(spot);
    if (this.#job.settings.dryRun) return;
    const position = positionOf(spot);
    if (progress.doubt) progress.doubt.lines -= position.total - progress.total;
    progress.total = position.total;
    const cursor = this.hasMoved || spot.part ? this.#feed.cursorOf(position) : undefined;
    if (cursor) [progress.cursor, progress.drained] = [cursor, undefined];
    // fail2ban writes to the log again.
    if (cursor && this.#plan.segments[position.segment]?.file.isLive) progress.held = undefined;
    progress.part = spot.part;
    const ends = this.#plan.segments.slice(0, position.segment).flatMap(({ end }) => end ?? []);
    progress.finished = mergeFinished(progress.finished, ends);
  }

  /** What is before this, or the notice, is in doubt no more. */
  #settle(after?: Spot): void {
    const { doubt } = this.#progress;
    if (!doubt) return;
    const until = this.#doubtUntil(after);
    if (furtherDoubt(until, doubt) === until) this.#progress.doubt = undefined;
  }

  get hasMoved(): boolean {
    return totalAt(this.#spot) > this.#plan.from.total;
  }

  /**
   * Many lines are sent again as fewer. A single one is sent as a file, or kept on disk, which is
   * reported here and in the channel.
   */
  refused(message: Message, { kind, why }: Verdict): void {
    const { world, settings, statePath } = this.#job;
    const { title } = this.#destination;
    const { style } = this.#feed.shows;
    if (kind === "tooLarge" && this.#flooded && message.file) {
      const bytes = Buffer.byteLength(message.file.text);
      // Less than half: the form around the file counts, too.
      if (bytes > 4 * 1024) this.#fileBytes = Math.floor(bytes / 2) - 1_024;
      else [style.overflow, this.#fileBytes] = ["summary", FILE_BYTES];
      return;
    }
    if (message.lines > 1) {
      this.#progress.suspects = message.lines;
      return;
    }
    if (!message.shown) throw this.#refusal(`a notice was refused: ${why}`);
    const { outbox, notice = "" } = this.#progress;
    if (outbox?.file) {
      // Refused for the file or for the words: the words alone will tell.
      this.#progress.outbox = { text: outbox.text.replace(IN_FILE, ""), sent: 0 };
      this.#spot = this.#waiting(this.#progress.outbox);
      return;
    }
    if (!this.#asFile && ++this.#refused > 10)
      throw this.#refusal(`too many lines were refused: ${why}`, `see ${statePath}.rejected`);
    this.#asFile = style.overflow === "file" && !message.file;
    if (this.#asFile) return;
    const path = `${statePath}.rejected`;
    const line = message.shown.join("");
    writePrivate(world, path, fs.constants.O_APPEND, line);
    const where = `lines were refused here, they were saved in ${basename(path)}`;
    const refused = `⚠️ ${settings.host}: ${where}\n`;
    if (isFirst(settings.said, title + path))
      complain(world, `${title} refused a line: ${why}`, `it was saved in ${path}`);
    this.#progress.suspects = undefined;
    this.done(message, notice.includes(refused) ? notice : notice + refused);
  }

  /** Ends the run for a destination that refuses whatever comes, and leaves it alone for a while. */
  #refusal(why: string, hint?: string): Fault {
    const { name, title, settings } = this.#destination;
    const pause = pauseFor({ kind: "refused", why, hint }, this.#job.world.now(), 0, settings);
    this.#job.channel(name).pause = pause;
    return new Fault(69, `${title}: ${why}`, hint);
  }

  waiting(): string {
    const { segment, offset } = positionOf(this.#spot);
    let lines = 0;
    for (const [index, { file, from }] of this.#plan.segments.entries())
      if (index >= segment) lines += file.countLines(index > segment ? from : offset, file.size);
    const { outbox, notice } = this.#progress;
    const unsent = outbox || (notice && lines === 0) ? [amount(1, "message")] : [];
    const parts = lines > 0 ? [...unsent, amount(lines, "line")] : unsent;
    if (parts.length === 0) return "";
    return `${parts.join(" and ")} ${parts.length === 1 && lines <= 1 ? "waits" : "wait"}`;
  }

  /** Everything was sent: remembers what a later run can look at to see that nothing is new. */
  #finish(): undefined {
    const progress = this.#progress;
    const { segments, ends, listing, known, startCursor } = this.#plan;
    const { segment, offset } = positionOf(this.#spot);
    const last = segments.at(-1)?.file;
    const held = last?.isLive ? undefined : last;
    // Under the same name it may be another file by now, but not if the pass began in it.
    const isSame = segments.length === 1 || !this.hasMoved;
    if (progress.held?.name !== held?.name || !isSame)
      progress.held = held && { name: held.name, since: this.#job.world.now() };
    if (this.#job.logChanged) return;
    progress.cursor ??= startCursor;
    progress.finished = latest(mergeFinished(progress.finished, ends), ends.length);
    if (!progress.notice) progress.gap = false;
    progress.listing = listing;
    const file = segments[segment]?.file;
    progress.known = known.filter((each) => each !== file?.key);
    // The log as it is where it was sent to its end; an empty copy of it says no less.
    const drained = file?.isLive ? { file: file.identity, writtenMs: file.writtenMs } : undefined;
    if (drained) progress.drained = offset === file?.size ? drained : undefined;
  }
}

/** A text of ours beside the pass: in a fence under its title, in as many messages as it needs. */
function textSource(job: Job, own: Destination, title: string, text: string, after?: () => void) {
  const { fenced, plain, limit } = own;
  const encoded = own.encode(text);
  const channel = job.channel(own.name);
  let before = channel.doubt;
  // The ages and dates in a title are others each time.
  const mark = fingerprint(title.replace(/\d+/g, "") + text);
  const isRepeat = before === mark;
  let [at, taken, isOver]: [number, number, boolean] = [0, 0, false];
  return {
    next(isUnclear) {
      if (isOver) return undefined;
      const head = (isUnclear || isRepeat ? RESENT_MARK : "") + title;
      // Without lines the title is all.
      if (encoded === "") return { content: plain(head, ""), lines: 1 };
      const cut = cutText(encoded, at, limit - fenced(`${RESENT_MARK}${title}\n`, "").length);
      ({ taken } = cut);
      return { content: fenced(`${head}\n`, cut.body), lines: 1 };
    },
    begin() {
      [before, channel.doubt] = [channel.doubt, mark];
      job.save();
    },
    answered: () => (channel.doubt = before),
    done() {
      at += taken;
      isOver = at >= encoded.length;
      channel.doubt = isOver ? undefined : mark;
      if (isOver) after?.();
      job.save();
    },
    refused(_, { why, hint }) {
      throw new Fault(69, `${own.title}: the message was refused: ${why}`, hint);
    },
  } satisfies Source;
}

// ── Command: check ──────────────────────────────────────────────────────────────────────────────
// Each row asks what a run would ask, on its own, so that no failure hides another. Nothing is
// posted without --hello, and nothing written unless a destination that had refused works again.

/** fail2ban's answer to a ping, or why there is none; `ask` gives "" where it cannot be asked. */
async function askPing(world: World, settings: Settings) {
  const ping = await faultOr(66, () => askClient(world, "ping"));
  const ask = async (...words: readonly string[]) =>
    ping instanceof Fault ? "" : await askClient(world, ...words).catch(() => "");
  return { world, settings, ping, ask };
}

/** What is found or wrong; an empty text makes no row. */
type Look = (seen: Awaited<ReturnType<typeof askPing>>) => string | Fault | Promise<string | Fault>;

/** `640 root:adm`: numbers where /etc/passwd and /etc/group have no names. */
function ownerText(world: World, { mode, uid, gid }: fs.Stats): string {
  const nameIn = (list: "passwd" | "group", id: number) => {
    const entries = ifPossible(() => world.fs.readFileSync(`/etc/${list}`, "utf8")) ?? "";
    return new RegExp(`^([^:\\n]*):[^:\\n]*:${id}:`, "m").exec(entries)?.[1] ?? id;
  };
  const octal = (mode & 0o777).toString(8).padStart(3, "0");
  return `${octal} ${nameIn("passwd", uid)}:${nameIn("group", gid)}`;
}

function sizeText(bytes: number): string {
  const unit = Math.min(3, Math.floor(Math.log2(Math.max(1, bytes)) / 10));
  const size = bytes / 1024 ** unit;
  const digits = unit > 0 && size < 10 ? size.toFixed(1) : Math.floor(size);
  return `${digits} ${["B", "KB", "MB", "GB"][unit]}`;
}

/** Rows by name. A `Closed` is what only a test message can show, or what this user may not ask. */
const ROWS = {
  settings({ settings: { hostFor, from, view } }) {
    const parts = [`f2b-watch ${VERSION}`, `host ${hostFor("{dir}")}`, `format ${view.format}`];
    parts.push(`new logs from the ${from}`);
    if (view.only.size > 0) parts.push(`only ${[...view.only].join(", ")}`);
    if (view.jails.size > 0) parts.push(`jails ${[...view.jails].join(", ")}`);
    return parts.join("; ");
  },
  "env file"({ world, settings: { envFile } }) {
    const stat = world.fs.statSync(envFile, { throwIfNoEntry: false });
    if (!stat) return `none (${envFile} does not exist)`;
    const text = `${envFile}, ${ownerText(world, stat)}`;
    const others = stat.gid === world.gid() ? 0o004 : 0o044;
    if (!stat.isFile() || (stat.mode & others) === 0) return text;
    return new Fault(78, `${text}: others can read it`, ENV_FILE_HINT);
  },
  log({ world, settings, settings: { log, manyLogs }, ping }) {
    using live = openLive(world, log);
    if (!live) return logMissing(settings);
    const { stat } = live;
    const foreign = foreignText(lastLines(live));
    const ageMs = world.now() - stat.mtimeMs;
    const age = `last written ${durationText(ageMs)} ago`;
    const size = stat.size > 0 ? sizeText(stat.size) : "empty";
    const text = `${log}, ${size}, ${age}, ${ownerText(world, stat)}`;
    if (foreign) return new Fault(66, `${text}; ${foreign}`, LOG_HINT);
    // While fail2ban is up its log grows, but not those of many hosts.
    if (ping instanceof Fault || manyLogs || ageMs <= DAY) return text;
    const message = `${log} has not grown for ${durationText(ageMs)}, though fail2ban answers`;
    return new Fault(66, message, LOG_HINT);
  },
  async "rotated files"({ world, settings: { log, isFound } }) {
    // Throws where the folder cannot be listed.
    listSiblings(world, log);
    using live = ifPossible(() => openLive(world, log, isFound));
    const siblings = await openSiblings(world, log, live);
    const ages = await siblingAges(world, siblings.open);
    for (const file of siblings.open) file.close();
    const unusable = [...siblings.leftOut, ...ages.filter(({ why }) => why)];
    const usable = ages.filter((age) => !age.why && (age.firstTime || age.number !== undefined));
    const found = `${usable.length} found, youngest ${usable.at(-1)?.name}`;
    const text = usable.length > 0 ? found : "none found";
    const why = unusable[0]?.why;
    if (!why) return text;
    let hint = "move it away: only intact files of root or the log's owner are read, and no links";
    if (why === "permission denied") hint = "run as root";
    if (why.endsWith("not installed")) hint = `install ${why.split(" ", 1)[0]}, which unpacks it`;
    return new Fault(66, `${text}; left out: ${fitting(unusable.map(withReason), 250)}`, hint);
  },
  async fail2ban({ settings, ping, ask }) {
    // Without --ping a run does not need it.
    if (ping instanceof Fault && !settings.ping) return ping;
    if (ping instanceof Fault) return new Fault(ping.exitCode, ping.message, ping.hint);
    const version = (await ask("version")).trim();
    return version ? `${version}, answers` : "answers";
  },
  async "log target"({ world, settings: { log, manyLogs }, ask }) {
    const target = /`- (.+)$/m.exec(await ask("get", "logtarget"))?.[1]?.trim() ?? "";
    if (!target || manyLogs || rotationPath(world, target) === rotationPath(world, log))
      return target;
    if (target.includes("/"))
      return new Fault(66, `fail2ban writes to ${target}, not to ${log}`, `use --log ${target}`);
    const hint = `fail2ban-client set logtarget ${log}; and set it in /etc/fail2ban/fail2ban.local`;
    return new Fault(66, `fail2ban logs to ${target}, not to a file`, hint);
  },
  async "log level"({ ask }) {
    const level = /level is '?(\w+)/.exec(await ask("get", "loglevel"))?.[1] ?? "";
    if (level === "NOTICE") return "NOTICE: bans, but neither failed attempts nor restarts";
    if (!["WARNING", "ERROR", "CRITICAL"].includes(level)) return level;
    const hint = "fail2ban-client set loglevel INFO; and set it in /etc/fail2ban/fail2ban.local";
    return new Fault(66, `${level}: fail2ban does not log its bans`, hint);
  },
  // What --jail names must be there, or its lines would never come.
  async jails({ settings, ask }) {
    const answer = settings.view.jails.size > 0 && (await ask("status"));
    return answer ? jailsIn(answer, settings).join(", ") : "";
  },
  database({ world, settings, settings: { database } }) {
    const path = databaseOf(world, settings);
    if (!path) return database ? `none (${database} is missing or not readable)` : "none";
    const last = readBans(world, path, "ORDER BY timeofban DESC LIMIT 1", [[]])[0]?.[0];
    if (!last) return `${path}, no bans`;
    return `${path}, last ban ${durationText(world.now() - last.timeofban * SECOND)} ago`;
  },
  async countries({ world, settings: { geo = "" } }) {
    if (geo) await lookUpCountry(world, geo);
    return geo;
  },
  state({ world, settings, settings: { state } }) {
    const path = statePathOf(settings);
    checkStateDirectory(world, state);
    const stat = world.fs.statSync(state, { throwIfNoEntry: false });
    if (!stat) {
      let parent = dirname(state);
      while (!world.fs.existsSync(parent)) parent = dirname(parent);
      writing(state, () => world.fs.accessSync(parent, fs.constants.W_OK));
      return `${state} does not exist yet: the first run creates it`;
    }
    // A file beside the state is written and locked as a run would do it.
    const scratch = `${path}.try${Math.floor(world.random() * 1e9)}`;
    try {
      writePrivate(world, scratch, 0, "");
      acquireLock(scratch)?.[Symbol.dispose]();
      writePrivate(world, scratch, 0, "x".repeat(4 * 1024));
    } finally {
      world.fs.rmSync(scratch, { force: true });
    }
    const file = world.fs.statSync(path, { throwIfNoEntry: false });
    const kept = file ? `; ${basename(path)}, ${ownerText(world, file)}` : "";
    return `${state}, ${ownerText(world, stat)}${kept}`;
  },
  progress({ world, settings }) {
    const { state, isDamaged } = readState(world, settings);
    if (isDamaged && !state) {
      const hint = `is the disk full? df -h ${settings.state}; the next run starts over and reports the gap`;
      return new Fault(73, "the state is damaged, and so is its older copy", hint);
    }
    const { destinations = {}, failures = {} } = state ?? {};
    const held = Object.values(destinations).flatMap((progress) => progress.held ?? [])[0];
    if (held && failures["stuck"]) {
      const age = durationText(world.now() - held.since);
      const text = `fail2ban has been writing to ${held.name} for ${age}`;
      return new Fault(66, text, "fail2ban-client flushlogs");
    }
    // If it cannot be read, the log's own row says why.
    using live = ifPossible(() => openLive(world, settings.log));
    let isWaiting = false;
    const texts = Object.entries(destinations).map(([name, { cursor, outbox, notice, gap }]) => {
      let text = cursor ? `${name} after line ${cursor.lines}` : `${name} at the log's start`;
      if (cursor?.lastTime) text += ` (${cursor.lastTime})`;
      const unread = cursor && live?.matches(cursor) ? live.size - cursor.offset : undefined;
      if (unread) text += `, ${sizeText(unread)} unread`;
      else if (unread === 0) text += ", up to date";
      else if (cursor && live) text += " of a log that was rotated or overwritten";
      if (!outbox && (!notice || gap)) return text;
      isWaiting = true;
      return `${text}, 1 message waiting`;
    });
    if (texts.length === 0) return `none: the first run starts at the log's ${settings.from}`;
    if (isDamaged) texts.push("from the older copy, the newer one is damaged");
    const hint = "the next run sends it, once the destination accepts it";
    return isWaiting ? new Fault(75, texts.join("; "), hint) : texts.join("; ");
  },
  lock({ world, settings }) {
    const path = `${statePathOf(settings)}.lock`;
    const stat = world.fs.lstatSync(path, { throwIfNoEntry: false, bigint: true });
    if (!stat) return "does not exist yet: the first run creates it";
    const isLock = stat.isFile() && stat.size === 0n;
    const removal = `while no run is in progress: rm ${path}`;
    if (!isLock) return new Fault(73, `${path} is not an empty file`, removal);
    world.fs.accessSync(path, fs.constants.R_OK | fs.constants.W_OK);
    // The process that holds the byte which SQLite locks to write, from the kernel's list: taking
    // the lock would turn a run away. "": none; absent: there is no such list. Processes of other
    // containers are not in it.
    const locks = ifPossible(() => world.fs.readFileSync("/proc/locks", "utf8"));
    const isHeld = new RegExp(`POSIX .* (\\d+) \\w+:\\w+:${stat.ino} ${0x40000001} `);
    const holder = locks && (isHeld.exec(locks)?.[1] ?? "");
    const hung = holder === "" ? undefined : hungRun(world, settings);
    if (hung) return new Fault(75, hung.why, `ps -fp ${holder ?? `"$(fuser ${path})"`}`);
    if (holder) return `works; process ${holder} is running now`;
    return holder === "" ? "works, free" : "works";
  },
} satisfies Record<string, Look>;

/**
 * Asks a destination without posting. Under the lock of a run it resumes what had refused and works
 * again, and posts the test message.
 */
async function tryService(world: World, settings: Settings, logs: Settings[], service: Connected) {
  const { host, hello, dryRun, json } = settings;
  const { name, title } = service;
  const [first = settings] = logs;
  const { channels = {}, failures = {} } = lastState(world, statePathOf(first)) ?? {};
  const now = world.now();
  const failure = failures[name];
  const age = failure ? `; runs have failed for ${durationText(now - failure.since)}` : "";
  const pause = pauseIn(channels[name] ?? { posts: [] }, now, service.settings);
  const refusal = pause?.settings === undefined ? "" : pause.why;
  if (pause && !refusal) {
    const why = `quiet for another ${durationText(pause.until - now)}: ${pause.why}`;
    return new Fault(pause.exitCode, why + age, pause.hint);
  }
  const asked = await faultOr(75, () => askService(world, service));
  if (asked instanceof Fault) return new Fault(asked.exitCode, asked.message + age, asked.hint);
  const { text, bot = "$&", doubt, untouched } = asked;
  const faultFor = (why: string, { exitCode, hint = "fix that" }: Pause | Fault, then = "") =>
    new Fault(exitCode, `${text}; ${why}`, hint.replace("@<the bot>", bot) + then);
  if (pause && untouched?.test(refusal) && !hello)
    return faultFor(refusal + age, pause, "; then: check --hello");
  const posts = hello && !(dryRun && json);
  const path = neutralise(redact(settings.log.replaceAll("`", "'"), []));
  const words = `👋 ${host}: f2b-watch ${VERSION} can post here and watches \`${path}\``;
  let outcome: Ended["outcome"];
  const resume: Work = async (job, own) => {
    if (own.name !== name) return undefined;
    const channel = job.channel(name);
    if (channel.pause?.settings) delete channel.pause;
    // If it fails, that is no failed run.
    if (posts && job.settings.log === first.log)
      outcome = await faultOr(70, () => deliver(job, own, textSource(job, own, words, "")));
    return undefined;
  };
  const failed = await faultOr(73, async () => {
    // Each log's state remembers by itself who refused.
    for (const each of posts || (refusal && !dryRun) ? logs : [])
      await sendBeside(world, { ...each, host }, resume);
  });
  // What a dry run printed proves nothing.
  const ended = dryRun ? undefined : (failed ?? outcome);
  if (ended instanceof Fault)
    return faultFor(`but ${ended.message.replace(`${title}: `, "") || "stopped"}`, ended);
  let found = text + age;
  if (ended) found += "; the test message was posted";
  else if (refusal) found += `; refused before (${refusal}), is tried again`;
  if (failures[`${name} unverified`]) found += "; it does not confirm messages";
  if (!doubt || ended) return found;
  return new Closed(0, `${found}; only check --hello can tell ${doubt}`);
}

/** Shows what is configured and whether it works. */
async function check(world: World, settings: Settings): Promise<number> {
  const seen = await askPing(world, settings);
  const clean = (text: string) => cleanText(text.replace(/\s+/g, " "), settings.ownSecrets);
  const rows: { name: string; state: string; text: string; hint: string; exitCode: number }[] = [];
  const add = async (name: string, faultCode: number, look: () => ReturnType<Look>, of = "") => {
    const found = await faultOr(faultCode, look);
    const { message, hint = "", exitCode } = found instanceof Fault ? found : new Fault(0, found);
    const [text, todo] = [message && clean(of + message), clean(hint)];
    const state = found instanceof Closed ? "unknown" : found instanceof Fault ? "failed" : "ok";
    if (state === "failed") rows.push({ name, state, text, hint: todo, exitCode });
    else if (text)
      rows.push({ name, state, text: todo ? `${text}; ${todo}` : text, hint: "", exitCode: 0 });
  };
  const logs = ifPossible(() => findLogs(world, settings)) ?? [settings];
  const ofLogs = ["log", "rotated files", "progress", "lock"];
  const exitCodes: Record<string, number> = { "env file": 78, state: 73, progress: 73, lock: 73 };
  for (const [name, look] of Object.entries<Look>(ROWS))
    for (const own of ofLogs.includes(name) ? logs : [settings]) {
      const of = own !== settings && name !== "log" && logs.length > 1 ? `${own.log}: ` : "";
      await add(name, exitCodes[name] ?? 66, () => look({ ...seen, settings: own }), of);
    }
  for (const service of settings.services) {
    const name = service === STDOUT ? "destination" : service.title;
    await add(name, 75, () => tryService(world, settings, logs, service));
  }
  const exitCode = worstExit(rows.map((row) => row.exitCode));
  const width = Math.max(...rows.map(({ name }) => name.length));
  const signs: Record<string, string> = { ok: "✓", failed: "✗", unknown: "?" };
  const table = rows.map(({ name, state, text, hint }) => {
    const head = `${signs[state]} ${name.padEnd(width)}`;
    // Hints never wrap, so that commands can be copied.
    return columns([[head, text]], world.terminal ? 80 : Infinity) + (hint && `  → ${hint}\n`);
  });
  const report = `${JSON.stringify({ exitCode, rows }, undefined, 2)}\n`;
  await print(world, settings.json ? report : table.join(""));
  return exitCode;
}

// ── The other commands ──────────────────────────────────────────────────────────────────────────
// What a person asks by hand, or cron once a day; none of it moves a cursor.

/** Prints what fail2ban-client says of all or the named jails, or sends it where it is news. */
async function status(world: World, settings: Settings, named: readonly string[]): Promise<number> {
  const { json, host, send, prints } = settings;
  const jails = await faultOr(70, () => jailStatuses(world, settings, named));
  settings.facts.news.set("status", jails instanceof Fault ? jails : undefined);
  if (jails instanceof Fault) {
    if (!send || jails.exitCode !== 66) throw jails;
    // With --send, which is for cron, it is reported as rarely as a run that fails.
    return worstExit([await sendBeside(world, settings, () => undefined), jails.exitCode]);
  }
  if (json) await print(world, `${JSON.stringify({ host, jails }, undefined, 2)}\n`);
  else if (!send) await print(world, statusTable(jails, false) || "no jails\n");
  // Where messages would be printed too, the object is the message.
  if (!send || (json && prints)) return 0;
  // Jails and banned addresses in any order; counters do not matter.
  const sets = jails.map(({ jail, banned }) => [jail, ...new Set(banned.toSorted())].join("\n"));
  const mark = fingerprint(JSON.stringify(sets.sort()));
  const banned = jails.reduce((sum, { currentlyBanned }) => sum + currentlyBanned, 0);
  const counts = `${amount(jails.length, "jail")}, ${banned} banned`;
  const title = `${host}: ${jails.length > 0 ? counts : "no jails"}`;
  const table = statusTable(jails, true);
  return sendBeside(world, settings, (job, destination) => {
    const channel = job.channel(destination.name);
    const source = textSource(job, destination, title, table, () => (channel.status = mark));
    return channel.status === mark ? { ...source, next: () => undefined } : source;
  });
}

/** Adds the file's whole lines from `from` on; of an endless one the rest is left out. */
async function addLines(world: World, tally: Tally, file: OpenFile, from: number): Promise<void> {
  // As fast as larger ones, and with less garbage.
  const buffer = Buffer.allocUnsafe(32 * 1024);
  for (let at = from; at < file.size;) {
    const bytes = file.fill(at, buffer.subarray(0, file.size - at));
    const end = bytes.lastIndexOf(NEWLINE) + 1;
    const next = end > 0 ? at + end : lineStartAfter(file, at + buffer.length);
    // The live log's last line may go on.
    if (bytes.length === 0 || (end === 0 && file.isLive && next >= file.size)) return;
    const lines = bytes.subarray(0, end || bytes.length);
    const text = latin1(lines);
    // Nearly all of a log is plain, and need not be decoded. In two steps: five times as fast.
    const isPlain = isAscii(lines) && !/[\x00-\x08\x0b-\x1f\x7f]/.test(text);
    tally.addText((isPlain ? text : visible(decoded(lines))) + (end > 0 ? "" : "\n"));
    at = next;
    // Every 2 MiB or so, lets signals and the garbage collector in.
    if (at % (2 * 1024 * 1024) > buffer.length) continue;
    await world.sleep(0);
    if (world.stopping.aborted) throw new Fault(75, "stopped before it was done");
  }
}

/** An offset early enough for every line of the period. */
function startIn(file: OpenFile, isOlder: (time: string) => boolean): number {
  if (isOlder(file.lastTime)) return file.size;
  const stepBytes = 4 * 1024 * 1024;
  for (let at = file.size - stepBytes; at > 0; at -= stepBytes) {
    const start = lineStartAfter(file, at);
    if (isOlder(firstTimeIn(file.read(start, SEARCH_BYTES)))) return start;
  }
  return 0;
}

/** Reads what the period needs, oldest first; it has no cursor and leaves no trace. */
async function readDigest(world: World, settings: Settings): Promise<Digest> {
  const { log, state, since: period, verbose } = settings;
  // A line so much older ends the search for where the period begins: clocks are put back.
  const limit = stampOf(period.sinceMs - 3 * HOUR);
  // A file without a time may hold lines of any.
  const isOlder = (time: string) => time !== "" && time < limit;
  /** The rotated files that may have lines from the limit on, and plain ones besides. */
  const openOlder = async () => {
    const siblings = await openSiblings(world, log, live);
    const ages = await siblingAges(world, siblings.open);
    const last = ages.findLastIndex(({ firstTime }) => isOlder(firstTime));
    const names = new Set(ages.slice(Math.max(0, last)).map(({ name }) => name));
    // Beside the state, where that is ours to write to; nobody else can guess the name.
    const home = ifPossible(() => {
      checkStateDirectory(world, state);
      world.fs.accessSync(state, fs.constants.W_OK | fs.constants.X_OK);
      return state;
    });
    const folder = home ?? process.getBuiltinModule("node:os").tmpdir();
    const path = resolve(folder, `${stateFileName(log)}.${crypto.randomUUID()}`);
    const isWanted = ({ name }: OpenFile) => names.has(name);
    const opened = await faultOr(70, () => unpackSiblings(world, siblings, path, isWanted));
    if (!(opened instanceof Fault)) return opened;
    const hint = "compressed logs are unpacked there; --state or TMPDIR names another place";
    throw new Fault(opened.exitCode, opened.message, hint);
  };
  const live = openLive(world, log, settings.isFound);
  const files = live ? [live] : [];
  using _files = { [Symbol.dispose]: () => files.forEach((file) => file.close()) };
  const { open, leftOut } = live && isOlder(live.firstTime) ? NO_SIBLINGS : await openOlder();
  files.unshift(...open);
  if (files.length === 0) throw logMissing(settings);
  const tally = new Tally(settings);
  // As for a reader that has seen nothing: what two files hold counts once.
  const { segments } = planRead({ total: 0, finished: [], gap: false }, files);
  for (const { file, from: start } of segments) {
    const from = Math.max(start, startIn(file, isOlder));
    if (verbose) world.writeError(`f2b-watch: ${file.name} from ${from} to ${file.size}\n`);
    await addLines(world, tally, file, from);
  }
  const damaged = files.filter(({ why }) => why);
  const { countries } = await lookUpFacts(world, settings, tally.busiest(100));
  for (const fault of settings.facts.news.values())
    if (fault) complain(world, fault.message, fault.hint);
  return tally.digest([...damaged, ...leftOut].map(withReason), countries);
}

/** Says what happened in a period, on stdout or where the messages go. */
function digest(world: World, all: Settings): Promise<number> {
  return onEachLog(world, findLogs(world, all), async (settings) => {
    const { log, host, json, send, prints, view } = settings;
    const report = await readDigest(world, settings);
    const { jails, failedActions, otherAlerts, serverStarts, lines } = report;
    // `web-1: digest of fail2ban.log, sshd, 2026-11-21 12:00 to 2026-11-22 12:00`
    const names = shortened(neutralise([basename(log), ...view.jails].join(", ")), 40);
    const isEmpty = jails.length + failedActions + otherAlerts + serverStarts === 0;
    const nothing = isEmpty && lines.undated <= lines.dated ? ": nothing happened" : "";
    const period = `${report.since.slice(0, 16)} to ${report.until.slice(0, 16)}`;
    const title = `${host}: digest of ${names}, ${period}${nothing}`;
    const before = `${RESENT_MARK}${title}\n`;
    const textFor = ({ encode, fenced, limit }: Destination) =>
      digestText(report, (text) => fenced(before, encode(text)).length <= limit);
    if (json) await print(world, `${JSON.stringify({ host, log, ...report }, undefined, 2)}\n`);
    else if (!send) await print(world, `${title}\n${textFor(destinationOf(settings, STDOUT))}`);
    // Where messages would be printed too, the object is the message.
    if (!send || (json && prints)) return 0;
    return sendBeside(world, settings, (job, destination) =>
      textSource(job, destination, title, textFor(destination)),
    );
  });
}

// ── Command line ────────────────────────────────────────────────────────────────────────────────
// Flags win over the environment, the environment over the env file. cac matches words to commands,
// zod validates every value. Secrets come from the environment or the env file only.

/** A text of this shape, turned into its meaning, which may have limits of its own. */
function shaped<Value>(shape: RegExp, read: (text: string) => Value, isFine = (_: Value) => true) {
  return z.pipe(z.string().check(z.regex(shape)), z.transform(read).check(z.refine(isFine)));
}

const SWITCH = [
  "1, 0, true or false",
  () => shaped(/^(?:1|0|true|false)$/, (text) => text === "1" || text === "true"),
] as const;
const PATH = ["a path", () => shaped(/^[^\0]+$/, (path) => resolve(path))] as const;

function listed(text: string): ReadonlySet<string> {
  return new Set(text === "" ? [] : text.split(",").map((name) => name.trim()));
}

/** A stretch of the log's own wall clock, read as UTC; both ends are in it. */
function period({ now }: World) {
  const nowMs = wallClock(now());
  const midnight = nowMs - (nowMs % DAY);
  const read = (text: string) => {
    const isPast = text === "yesterday";
    const isDate = /^\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d)?)?$/.test(text);
    const ago = /^(?:\d{1,5}[wdhm])+$/.test(text) ? (secondsIn(text) ?? 0) * SECOND : 0;
    const at = isDate ? wallClockMs(text) : nowMs - (ago || Number.NaN);
    const sinceMs = text === "today" ? midnight : isPast ? midnight - DAY : at;
    return { sinceMs, untilMs: isPast ? midnight - SECOND : nowMs, isPast };
  };
  // A longer period would start in a year before 1000, which has no four digits.
  const firstMs = nowMs - 99_999 * 7 * DAY;
  return shaped(/^/, read, ({ sinceMs }) => sinceMs <= nowMs && sinceMs >= firstMs);
}

/**
 * Everything that the command line, the variables and --help need to know about an option. `usage`:
 * `--max-time <s>`; a switch has no value. `commands`: those that use it; `*`: every command with
 * options. Then its default, and what a value must look like, in words and as a schema.
 */
function option<Value, Fallback extends string | undefined>(
  usage: string,
  commands: string,
  fallback: Fallback,
  [expects, schema]: readonly [string, (world: World) => Zod.ZodMiniType<Value>],
  help: string,
) {
  const [flag = ""] = usage.split(" ", 1);
  const variable = `F2B_${flag.slice(2).replaceAll("-", "_").toUpperCase()}`;
  const owners = (commands === "*" ? "pass check status digest" : commands).split(" ");
  return { usage, flag, variable, commands: owners, fallback, expects, schema, help };
}

/** Every option by its name in the settings. Another option is one more row. */
// prettier-ignore
const OPTIONS = {
  log: option("--log <file>", "*", "/var/log/fail2ban.log", PATH,
    "the log; or many, as a quoted glob: '/var/log/hosts/*/fail2ban.log'"),
  state: option("--state <dir>", "*", undefined, PATH,
    "where progress is kept (systemd's STATE_DIRECTORY, else state/ beside the script; " +
    "compiled: /var/lib/f2b-watch)"),
  envFile: option("--env-file <file>", "*", "/etc/f2b-watch.env", PATH,
    "variables as NAME=VALUE lines, if it exists"),
  format: option("--format <name>", "pass check", "raw",
    ["raw, compact or events", () => z.enum(["raw", "compact", "events"])],
    "raw: the log's lines; compact: shorter ones; events: readable messages"),
  only: option("--only <kinds>", "pass check", "",
    [`some of ${KINDS.join(", ")}`,
      () => shaped(/^/, listed, (names) => names.isSubsetOf(new Set<string>(KINDS)))],
    `only these kinds, separated by commas: ${KINDS.join(", ")}`),
  jail: option("--jail <names>", "*", "",
    ["names separated by commas", () => shaped(/^/, listed, (names) => !names.has(""))],
    "only these jails, separated by commas; lines that belong to no jail always pass"),
  host: option("--host <name>", "*", undefined, ["a name", () => shaped(/\S/, String)],
    "shown in every message (the machine's name); {dir} in it is the log's folder"),
  color: option("--color", "pass check", "0", SWITCH, "Discord only: colors by kind of line"),
  from: option("--from <start|end>", "pass check", "start",
    ["start or end", () => z.enum(["start", "end"])], "where to start in a new log"),
  inline: option("--inline <n>", "pass check", "20",
    ["a whole number from 0 to 100000", () => shaped(/^\d{1,6}$/, Number, (n) => n <= 100_000)],
    "more messages than this become a summary with the lines as a file; 0: never"),
  link: option("--link <url>", "pass check", "https://db-ip.com/{ip}",
    // The URL holds the address behind its host. Empty for no link.
    ["none, or an http(s) URL with {ip} in its path", () => shaped(
      /^none$|^https?:\/\/[^\s/?#{}<>|`\\]+\/[^\s<>|`\\]*\{ip\}[^\s<>|`\\]*$/,
      (url) => (url === "none" ? "" : url), (url) => url.length <= 300)],
    "events: where an address leads; none for no link"),
  geo: option("--geo <file>", "pass check digest", undefined, PATH,
    "events, digest: countries from this .mmdb, read by mmdblookup"),
  database: option("--database <file>", "pass check", "/var/lib/fail2ban/fail2ban.sqlite3",
    ["a path, or none", () => shaped(/^[^\0]+$/, (path) => (path === "none" ? "" : resolve(path)))],
    "events: fail2ban's own record of bans, or none"),
  userNames: option("--user-names", "pass check", "0", SWITCH,
    "events: the user names tried, from that record; people type passwords there"),
  ping: option("--ping", "pass check", "0", SWITCH,
    "also check that fail2ban answers; report when it is down and when it is back"),
  maxTime: option("--max-time <s>", "*", "300",
    ["whole seconds from 1 to 86400",
      () => shaped(/^\d{1,5}$/, Number, (n) => n >= 1 && n <= 86_400)],
    "stop cleanly after this many seconds; the next run continues"),
  dryRun: option("--dry-run", "*", "0", SWITCH,
    "print what would be sent, send nothing, change nothing"),
  verbose: option("--verbose", "*", "0", SWITCH, "report on stderr what it does"),
  hello: option("--hello", "check", "0", SWITCH, "post a test message to every destination"),
  since: option("--since <when>", "digest", "24h",
    ["today, yesterday, a period (1h30m), or a date that is not in the future", period],
    "90m, 1h30m, 7d, today, yesterday, or a date, '2026-11-22 08:30'"),
  send: option("--send", "status digest", "0", SWITCH, "post it; status: only if it has changed"),
  json: option("--json", "check status digest", "0", SWITCH, "print a JSON object"),
};
const OPTION_NAMES = Object.keys(OPTIONS) as (keyof typeof OPTIONS)[];

/** `usage`: as help shows it. A command without examples needs no settings. */
interface Command extends Readonly<Record<"name" | "usage" | "help", string>> {
  readonly examples: readonly string[];
  readonly run: (world: World, settings: Settings, words: readonly string[]) => Promise<number>;
}

/** What can be asked for; a run is the command without a name. */
// prettier-ignore
const COMMANDS: readonly Command[] = [
  { name: "pass", usage: "", help: "posts what is new in the log", run: pass,
    examples: ["--dry-run --format events", "--from end --only alert,ban"] },
  { name: "check", usage: "check", help: "shows what is configured and whether it works",
    run: check, examples: ["check", "check --hello", "check --json"] },
  { name: "status", usage: "status [jail…]", help: "shows current bans and failures", run: status,
    examples: ["status", "status sshd nginx-http-auth", "status --send"] },
  { name: "digest", usage: "digest", help: "sums up what happened in a period", run: digest,
    examples: ["digest", "digest --since 7d --jail sshd", "digest --since yesterday --send"] },
  { name: "help", usage: "help [command]", help: "shows one command (also -h, --help)",
    run: (world, _, [word]) => print(world, helpText(word)), examples: [] },
  { name: "version", usage: "version", help: "shows the version (also -V, --version)",
    run: (world) => print(world, `f2b-watch ${VERSION}\n`), examples: [] },
];

/** Names in one column, texts beside it that wrap at spaces. */
function columns(rows: readonly (readonly [string, string])[], width: number): string {
  const indent = Math.max(...rows.map(([name]) => name.length)) + 2;
  const lines = rows.map(([name, text]) => {
    const wrapped = filled(text.split(" "), width - indent).join(`\n${" ".repeat(indent)}`);
    return `${name.padEnd(indent)}${wrapped}`.trimEnd();
  });
  return `${lines.join("\n")}\n`;
}

/** Help for the command of that name, or for all. */
function helpText(word = ""): string {
  const command = COMMANDS.find(({ name }) => name === word);
  if (word && !command) throw unknown("command", word);
  const usageOf = ({ usage, examples }: Command) =>
    ["f2b-watch", usage, examples[0] ? "[options]" : ""].filter(Boolean).join(" ");
  const used = Object.values(OPTIONS).filter(({ commands }) => !word || commands.includes(word));
  const options = used.map(({ usage, help, fallback, commands }): [string, string] => {
    const owned = word || commands.includes("pass") ? help : `${commands.join(", ")}: ${help}`;
    return [usage, fallback && usage.includes(" ") ? `${owned} (${fallback})` : owned];
  });
  let text = `f2b-watch ${VERSION}: posts fail2ban's log to Discord and Slack, every line once\n`;
  let sections: Record<string, [string, string][]> = {
    usage: COMMANDS.map((each) => [usageOf(each), each.help]),
    "options (--max-time is the variable F2B_MAX_TIME, and so on)": options,
    // They have no flags, because flags show in `ps`.
    "destinations: variables, in the environment or the env file": [
      ...SERVICES.flatMap(({ variables }) => Object.entries(variables)),
      ["none of them", "messages go to stdout"],
    ],
    "exit status": [
      ["0", "done, nothing to do, or another run is in progress"],
      ["64", "bad usage"],
      ["66", "the log or fail2ban-client cannot be used"],
      ["69", "a destination refuses permanently"],
      ["70", "a bug in f2b-watch"],
      ["73", "state cannot be written or read"],
      ["75", "try again later"],
      ["78", "configuration"],
    ],
  };
  if (command) {
    text = `${usageOf(command)}: ${command.help}\n`;
    sections = { options, examples: command.examples.map((words) => [`f2b-watch ${words}`, ""]) };
  }
  for (const [title, rows] of Object.entries(sections))
    if (rows.length > 0) text += `\n${title}\n${columns(rows, 78).replace(/^(?=.)/gm, "  ")}`;
  return text;
}

/**
 * A hint that names the nearest of the names: one that begins with the word, or differs from it in
 * at most so many letters that are wrong, missing, added or swapped.
 */
function didYouMean(word: string, names: readonly string[], most?: number): string | undefined {
  const plain = (name: string) => name.toLowerCase().replaceAll(/[-_]/g, "");
  const isNear = (typed: string, name: string, errors: number): boolean => {
    let same = 0;
    while (same < typed.length && typed[same] === name[same]) same++;
    const [a, b] = [typed.slice(same), name.slice(same)];
    if (errors === 0 || Math.abs(a.length - b.length) > errors) return a === b;
    const isSwapped = a[0] === b[1] && a[1] === b[0];
    return [...(isSwapped ? [[2, 2]] : []), [1, 1], [1, 0], [0, 1]].some(([ofTyped, ofName]) =>
      isNear(a.slice(ofTyped), b.slice(ofName), errors - 1),
    );
  };
  const typed = plain(word);
  const isBegun = (name: string) => typed.length > 2 && plain(name).startsWith(typed);
  let near = most === undefined ? names.find(isBegun) : undefined;
  for (let errors = 0; errors <= (most ?? (typed.length > 4 ? 2 : 1)); errors++)
    near ??= names.find((name) => isNear(typed, plain(name), errors));
  return near && `did you mean ${near}?`;
}

function badUsage(message: string, hint = "f2b-watch help lists commands and options"): Fault {
  return new Fault(64, message, hint);
}

function unknown(kind: "option" | "command", word: string): Fault {
  const flags = Object.values(OPTIONS).map(({ flag }) => flag);
  const names = kind === "option" ? flags : COMMANDS.slice(1).map(({ name }) => name);
  return badUsage(`unknown ${kind}: ${quoted(word)}`, didYouMean(word, names));
}

/** Options as they were typed. */
type Typed = Partial<Record<keyof typeof OPTIONS, string>>;

/**
 * Takes the options out, with their values as typed. cac would turn some into numbers (`--host
 * 007`), let `--dry-run` take the next word, and accept other spellings (`--dryRun`, `--log.x`).
 */
function takeOptions(argv: readonly string[]) {
  const typed: Typed = {};
  const words: string[] = [];
  let question: string | undefined;
  const rest = argv.values();
  for (const word of rest) {
    const [, flag = "", given] = /^([^=]*)(?:=(.*))?$/s.exec(word) ?? [];
    const name = OPTION_NAMES.find((each) => OPTIONS[each].flag === flag);
    if (name) {
      const { usage } = OPTIONS[name];
      if (typed[name] !== undefined) throw badUsage(`${flag}: given twice`);
      const value = given ?? (usage === flag ? "true" : rest.next().value);
      if (!value || (given === undefined && /^-(?!\d)/.test(value)))
        throw badUsage(`${usage}: the value is missing`);
      typed[name] = value;
    } else if (/^(?:-h|--help|-V|--version)$/.test(word)) {
      question ??= /v/i.test(word) ? "version" : "help";
    } else if (word.startsWith("-") && word !== "--") {
      throw unknown("option", flag);
    } else if (word !== "--") words.push(word);
    else if (rest.next().done !== true) throw badUsage("unexpected words after --");
  }
  // `status sshd --help` is `help status`.
  if (question) words.splice(question === "help" ? 1 : 0);
  if (question) words.unshift(question);
  return { words, typed };
}

/** The command that the words name; throws where a word or an option is not one of its own. */
function commandOf(parser: Cac.CAC, words: readonly string[], typed: Typed): Command {
  const [first] = words;
  for (const each of COMMANDS.slice(1))
    parser.command(each.usage.replace(/\[(.*)…\]/, "[...$1]")).action(() => each);
  const command = ifPossible((): Command | undefined => {
    parser.parse(["", "", ...words], { run: false });
    return parser.runMatchedCommand() ?? COMMANDS[0];
  });
  if (!command) {
    const word = quoted(words.at(-1) ?? "");
    throw badUsage(`unexpected word after ${first}: ${word}`, `f2b-watch help ${first}`);
  }
  const { name, examples } = command;
  if (name === "pass" && first !== undefined) throw unknown("command", first);
  if (name === "status" && words.length > 1 && typed.jail)
    throw badUsage("--jail: jails are already named after status", "f2b-watch help status");
  // Every command takes a run's options, so that a crontab's can be reused.
  const isUsed = (each: string) => each === name || each === "pass";
  const stray = OPTION_NAMES.find((each) => typed[each] && !OPTIONS[each].commands.some(isUsed));
  if (!stray || examples.length === 0) return command;
  const { flag, commands } = OPTIONS[stray];
  const owners = commands.join(", ").replace(/, (?=\w+$)/, " and ");
  const hint = `f2b-watch help ${commands[0]} shows its options`;
  throw badUsage(`${flag} is an option of ${owners}`, hint);
}

/** A variable's value: trimmed, and without one pair of quotes around it. */
const unquoted = (text = "") => text.trim().replace(/^(["'])(.*)\1$/s, "$2");

/** What somebody typed, safe to show in an error. */
function quoted(value: string): string {
  return neutralise(redact(JSON.stringify(value.slice(0, 100)), []));
}

const ENV_FILE_HINT = "keep the settings in a file that only this user can access, mode 600";

/**
 * The variables of the environment and of the env file: the default one may be missing, a named one
 * may not. `nearby`: names in the environment that may be ours, misspelt. `marks`: fingerprints of
 * what is to be validated: all variables, each of those names, and each option that is set.
 */
function readVariables(world: World, typed: Typed) {
  const inWorld: Lookup = (name) => unquoted(world.env[name]) || undefined;
  const named = typed.envFile ?? inWorld(OPTIONS.envFile.variable);
  const path = resolve(named ?? OPTIONS.envFile.fallback);
  const file = new Map<string, string>();
  let text = "";
  try {
    // A name for none.
    text = path === "/dev/null" ? "" : readOwned(world, path);
  } catch (error) {
    const code = errorCode(error);
    let hint = code || isDenied(error) ? undefined : ENV_FILE_HINT;
    if (code === "EACCES") hint = "run as root, or as its owner";
    if (code !== "ENOENT" || named !== undefined)
      throw new Fault(78, `cannot read env file ${path}: ${reason(error)}`, hint);
  }
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (/^\s*(#|$)/.test(line)) continue;
    const [, name, value] = /^\s*([A-Za-z_]\w*)=(.*)$/.exec(line) ?? [];
    const place = `env file ${path}, line ${index + 1}`;
    if (!name) {
      const hint = "write NAME=value, without export and without spaces around the =";
      throw new Fault(78, `${place}: expected NAME=value, found something else`, hint);
    }
    if (file.has(name)) throw new Fault(78, `${place}: ${name} is set twice`);
    file.set(name, unquoted(value));
  }
  const variable: Lookup = (name) => inWorld(name) ?? (file.get(name) || undefined);
  const known = SERVICES.flatMap(({ variables }) => Object.keys(variables));
  for (const name of OPTION_NAMES) known.push(OPTIONS[name].variable);
  const values = known.map((name) => world.env[name]);
  const initials = new Set(known.map((name) => name[0]));
  const nearby = Object.keys(world.env).filter((name) => initials.has(name[0]?.toUpperCase()));
  const set = OPTION_NAMES.flatMap((name) => {
    const value = typed[name] ?? variable(OPTIONS[name].variable);
    return value === undefined ? [] : `${name}=${value}`;
  });
  const marks = [JSON.stringify([VERSION, [...file], values]), ...nearby, ...set].map(checksumOf);
  return { variable, file, known, nearby, marks };
}

/**
 * Refuses every foreign name in the env file, where a misspelt one would be ignored in silence; in
 * the environment only near misses: images set `F2B_…` of their own.
 */
function checkVariables(world: World, variables: ReturnType<typeof readVariables>): void {
  const { file, nearby } = variables;
  const proxies = ["HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"];
  const known = [...variables.known, ...proxies];
  const early = /^(?:NODE|BUN|DENO|SSL_CERT|LD|MALLOC)_|^(?:TZ|PATH|LANG|LC_\w+|HOME)$/;
  for (const [name, value] of file) {
    if (early.test(name) || name === OPTIONS.envFile.variable) {
      const message = `${name} takes effect only at startup, not from the env file`;
      const place = "where f2b-watch is started: in the crontab, or with Environment= in the unit";
      throw new Fault(78, message, `set it ${place}`);
    }
    // Bun and Deno ask the environment for proxies when they first connect.
    if (proxies.includes(name.toUpperCase())) world.env[name] ??= value;
  }
  // Also by `F2B_DISCORD_WEBHOOK` or `DISCORD_WEBHOOK_URL`.
  const services = SERVICES.map(({ name }) => name).join("|");
  const extra = new RegExp(`^F2B_(?=${services})|_?(?:UR[IL]|\\d+)$`, "gi");
  const near = (name: string, most?: number) => didYouMean(name.replaceAll(extra, ""), known, most);
  const isForeign = (name: string) =>
    !variables.known.includes(name) && !proxies.includes(name.toUpperCase());
  const missed = nearby.filter(isForeign).find((name) => near(name, name.length > 12 ? 2 : 1));
  const wrong = missed ?? [...file.keys()].find(isForeign);
  if (wrong === undefined) return;
  throw new Fault(78, `${wrong}: unknown setting`, near(wrong) ?? `known: ${known.join(", ")}`);
}

/** Where progress is kept; a link is followed if systemd named it, or made it for a DynamicUser. */
function stateDirectory(world: World, named: string | undefined): string {
  const systemds = world.env["STATE_DIRECTORY"]?.split(":")[0];
  const path = named ?? resolve(systemds || world.stateHome);
  const target = ifPossible(() => world.fs.realpathSync(path)) ?? path;
  const isMade = dirname(target) === SYSTEMD_PRIVATE && world.fs.lstatSync(path).uid === 0;
  return isMade || path === systemds ? target : path;
}

/** The options, validated; an error names the flag or the variable. */
function readOptions(world: World, command: string, typed: Typed, variable: Lookup) {
  const read = (name: keyof typeof OPTIONS): [string, unknown] => {
    const { flag, variable: inVariable, schema, expects, commands } = OPTIONS[name];
    // What a command does not use is read only where it is set.
    const fallback = commands.includes(command) ? OPTIONS[name].fallback : undefined;
    let value: unknown;
    // A variable that a flag overrules is validated all the same.
    for (const [place, text, exitCode] of [
      [inVariable, variable(inVariable) ?? fallback, 78],
      [flag, typed[name], 64],
    ] as const) {
      if (text === undefined) continue;
      const result = z.safeParse<Zod.ZodMiniType<unknown>>(schema(world), text);
      value = result.data;
      if (result.success) continue;
      const message = `${place}: expected ${expects}, found ${quoted(text)}`;
      const names: readonly string[] = expects.match(/\b[a-z]{3,}\b/g) ?? [];
      const wrong = text.split(",").find((word) => !names.includes(word.trim()));
      const hint = didYouMean(wrong ?? text, names);
      throw exitCode === 64 ? badUsage(message, hint) : new Fault(exitCode, message, hint);
    }
    return [name, value];
  };
  return Object.fromEntries(OPTION_NAMES.map(read)) as {
    [Name in keyof typeof OPTIONS]:
      | Zod.infer<ReturnType<(typeof OPTIONS)[Name]["schema"]>>
      | Extract<(typeof OPTIONS)[Name]["fallback"], undefined>;
  };
}

/** What the command line, the environment and the env file settle. */
type Settings = Readonly<ReturnType<typeof readSettings>>;

function readSettings(world: World, command: string, typed: Typed) {
  const variables = readVariables(world, typed);
  checkVariables(world, variables);
  const { variable, marks } = variables;
  const options = readOptions(world, command, typed, variable);
  const { log, state, database, host, format, only, jail: jails, color, maxTime } = options;
  const trimmed: Lookup = (name) => variable(name)?.trim() || undefined;
  const connected = SERVICES.flatMap((service) => service.connect(trimmed) ?? []);
  const services = connected.length > 0 ? connected : [STDOUT];
  for (const { host: at } of connected) proxyOf(world, new URL(`https://${at}`));
  for (const name of ["send", "hello"] as const)
    if (connected.length === 0 && options[name] && OPTIONS[name].commands.includes(command))
      throw new Fault(78, `--${name}: no destination is set`, SET_ONE);
  // Lazily: where no line needs it, a time zone's data takes 4 MB and a third of a short run.
  const lastDay = lazily(() => stampOf(wallClock(world.now()) + DAY).slice(0, 10));
  /** The host's name in messages about a log in this directory. */
  const hostFor = (directory: string) => {
    const name = (host ?? world.hostName()).replaceAll("{dir}", () => directory);
    return neutralise(name.replace(/\s+/g, " ")).slice(0, HOST_LIMIT);
  };
  const manyLogs = /[*?[{]/.test(log);
  const databaseNamed = (typed.database ?? variable(OPTIONS.database.variable)) !== undefined;
  return {
    ...options,
    marks,
    state: stateDirectory(world, state),
    hostFor,
    /** In messages that are about no log. */
    host: hostFor(world.hostName()),
    view: { format, only, jails, color, lastDay },
    /** Logs of many hosts: at most one of them is this machine's. */
    manyLogs,
    /** Wildcards found the log: it must be no link. */
    isFound: false,
    database: (databaseNamed || !manyLogs) && database !== "" ? database : undefined,
    /** One that was named must be there. */
    databaseNamed,
    facts: new Facts(),
    /** What is said once, however many logs there are. */
    said: new Set<string>(),
    /** When to stop. */
    deadline: options.dryRun ? Infinity : world.now() + maxTime * SECOND,
    services,
    /** Its messages are printed, so nothing paces or refuses them. */
    prints: options.dryRun || connected.length === 0,
    ownSecrets: services.flatMap(({ secrets }) => secrets).filter(({ length }) => length >= 8),
  };
}

/** Runs the program: arguments without the program's name in, exit status out. */
export function main(argv: readonly string[], world: World): Promise<number> {
  return exitCodeOf(world, async () => {
    const { words, typed } = takeOptions(argv);
    // Nearly every run that cron starts ends here, without zod and cac: the state says that a run
    // before this one validated the same options and variables, and nothing is new.
    const isIdle = (): boolean => {
      const { variable, marks } = readVariables(world, typed);
      const log = resolve(typed.log ?? variable("F2B_LOG") ?? OPTIONS.log.fallback);
      const named = typed.state ?? variable("F2B_STATE");
      const state = stateDirectory(world, named && resolve(named));
      checkStateDirectory(world, state);
      const saved = lastState(world, statePathOf({ state, log }));
      const { marks: known, names } = saved?.validated ?? { marks: [], names: [] };
      const isKnown = marks.every((mark) => known.includes(mark));
      return saved !== undefined && isKnown && nothingNew(world, log, saved, names);
    };
    if (words.length === 0 && !world.terminal && ifPossible(isIdle)) return 0;
    const { cac } = await import("cac");
    z = await loadZod();
    const { name, run, examples } = commandOf(cac("f2b-watch"), words, typed);
    // help and version work where the configuration is broken.
    const settings = examples.length > 0 ? readSettings(world, name, typed) : ({} as Settings);
    return await run(world, settings, words.slice(1));
  });
}

// An uncaught rejection, or a promise that never settles, must not look like success.
if (import.meta.main) {
  process.exitCode = 70;
  void main(process.argv.slice(2), realWorld()).then((code) => (process.exitCode = code));
}
