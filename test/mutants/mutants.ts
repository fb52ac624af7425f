/** A deliberate break of the plugin, which a test should notice. */
export interface Mutant {
  name: string
  /** In plugin/. */
  file: string
  /** What is there, just once, and what takes its place. */
  from: string
  to: string
  /** Who should notice, one after the other: a file of test/, and after a colon how a test in it begins. */
  tests: string[]
  /** What is no longer so. */
  why: string
  /** Why no test can notice: what users see is the same. */
  equivalent?: string
}

const SNIPPET = "route: ToolJet's documented page snippet"
const SIGNED_IN = 'route: a signed-in user gets a URL'
const NOBODY = 'route: nobody is let in without an identity'
const NAMED = 'route: an app has to be named once'
const LIFE = 'reuse: patExpiry 5, minRemaining 1'
const PAUSE = "reuse: ToolJet's 429 pauses"
const PROBES = 'tooljet: after repeated failures'
const OUTAGE = "redis-down: 'serve': what this instance"
const REQUIRED = "audit: delivery 'required'"
const ONCE = 'tooljet: what may have reached ToolJet'

/** By room; weighted to what README promises. */
export const MUTANTS: Mutant[] = [
  // who asks, and for whom
  { name: 'email-of-body', file: 'access/identity.ts', from: '=> (request as { user?', to: '=> (request.body as { email?: string } | undefined)?.email ?? (request as { user?', tests: [SNIPPET], why: 'the hole of the documented snippet is open: one gets the URL of whom one names' },
  { name: 'email-mismatch', file: 'embed.ts', from: 'normalizeEmail(ask.email) !== email', to: 'normalizeEmail(ask.email) === undefined', tests: [SNIPPET], why: 'an ask for somebody else is answered' },
  { name: 'email-case', file: 'access/identity.ts', from: '(letters) => letters.toLowerCase()', to: '(letters) => letters', tests: ['route: e-mails are one person'], why: 'one person is two' },
  { name: 'email-fold', file: 'access/identity.ts', from: 'email.slice(start, end).replace(/[A-Z]+/g, (letters) => letters.toLowerCase())', to: 'email.slice(start, end).toLowerCase()', tests: ['properties: two e-mails'], why: 'two people are one' },
  { name: 'email-space', file: 'access/identity.ts', from: 'code === 0x20 ||', to: 'code === 0x20 || code === 0xa0 ||', tests: ['properties: two e-mails'], why: 'two people are one' },
  { name: 'query-email', file: 'audit/queries.lua', from: 'return lower(value:sub(first, last))', to: 'return lower(value)', tests: ['properties: two e-mails'], why: 'a query does not find who is spelled otherwise' },
  { name: 'query-email-case', file: 'audit/queries.lua', from: "text:gsub('[A-Z]'", to: "text:gsub('[A-Y]'", tests: ['properties: two e-mails'], why: 'a query does not find who is spelled otherwise' },
  { name: 'email-form', file: 'access/identity.ts', from: '&& EMAIL.test(email)', to: '', tests: [NOBODY], why: 'anything is an identity' },
  { name: 'email-length', file: 'access/identity.ts', from: 'email.length <= MAX_EMAIL_LENGTH &&', to: '', tests: [NOBODY], why: 'an identity has no bound' },
  { name: 'email-surrogate', file: 'access/identity.ts', from: '&& !LONE_SURROGATE.test(email)', to: '', tests: [NOBODY], why: 'two identities share a key, since they look alike in UTF-8' },
  { name: 'users-of-domain', file: 'embed.ts', from: 'const user = trail.tooljet.userHash(email)', to: "const user = trail.tooljet.userHash(email.split('@')[1]!)", tests: ['reuse: a report of one user touches nobody else'], why: 'users share URLs' },
  { name: 'authorize-truthy', file: 'embed.ts', from: 'app: app.label }) === true', to: 'app: app.label }) !== false', tests: ['route: authorize decides'], why: 'a verdict of undefined lets through' },
  { name: 'authorize-key', file: 'embed.ts', from: '{ email, app: app.label }) ===', to: '{ email, app: app.key }) ===', tests: ['route: authorize decides'], why: 'authorize does not know the app by its alias' },
  { name: 'replaces-anything', file: 'embed.ts', from: '/^[A-Za-z0-9_-]{1,64}$/', to: '/^[^]*$/', tests: [NAMED], why: 'replaces goes to Redis unchecked' },
  { name: 'authenticate-skipped', file: 'http/routes.ts', from: 'await promiseOf(authenticate(request, reply))', to: 'await promiseOf(Promise.resolve())', tests: ['route: one who is not signed in'], why: 'the route is open' },
  { name: 'authenticate-hasty', file: 'http/routes.ts', from: "?.then === 'function') return authenticated", to: "?.then !== 'nothing') return authenticated", tests: ['host: there is never a route'], why: 'an authenticate that has not looked yet lets through' },
  { name: 'authenticate-code', file: 'http/routes.ts', from: 'throw asUnauthenticated(error)', to: 'throw error', tests: [NOBODY, 'host: there is never a route'], why: 'who is not signed in gets the code of somebody else' },
  { name: 'route-without-jwt', file: 'index.ts', from: 'settings.route !== undefined && !fastify.hasRequestDecorator', to: 'settings.route === undefined && !fastify.hasRequestDecorator', tests: ['host: there is never a route'], why: 'there is a route without authentication' },
  { name: 'cached-by-browser', file: 'http/routes.ts', from: "reply.header('cache-control', 'no-store').header(", to: 'reply.header(', tests: [SIGNED_IN], why: 'a URL stays in a cache' },

  // which app
  { name: 'allow-list', file: 'access/apps.ts', from: 'if (this.#allowed === undefined) return app', to: 'return app', tests: ['route: apps is the allow-list'], why: 'any app may be opened' },
  { name: 'two-names', file: 'access/apps.ts', from: 'given.length > 1', to: 'given.length > 3', tests: [NAMED], why: 'of two apps one is taken' },
  { name: 'app-id-end', file: 'access/apps.ts', from: '{12}$/i', to: '{12}/i', tests: [NAMED], why: 'an id with a tail gets into keys' },
  { name: 'pat-as-slug', file: 'access/apps.ts', from: '(?!pat_)', to: '', tests: ['options: a wrong option'], why: 'a PAT pasted as a slug ends up in keys and the audit log' },
  { name: 'label-alias', file: 'access/apps.ts', from: 'label: alias ?? label', to: 'label', tests: ['audit: every kind of answer'], why: 'the audit log does not name the app by its alias' },

  // options
  { name: 'min-remaining-all', file: 'config/options.ts', from: 'value < patExpiry', to: 'value <= patExpiry', tests: ['options: a wrong option'], why: 'every ask would mint' },
  { name: 'min-remaining-tenth', file: 'config/options.ts', from: 'return Math.min(60, patExpiry / 10)', to: 'return Math.min(60, patExpiry)', tests: ['options: the defaults'], why: 'a short-lived URL is never reused' },
  { name: 'mints-default', file: 'config/options.ts', from: 'mints = 6', to: 'mints = 60', tests: ['options: the defaults'], why: 'one user uses up the limit of ToolJet' },
  { name: 'several-without-key', file: 'config/options.ts', from: "if (typeof tooljet === 'function') throw", to: 'if (tooljet === undefined) throw', tests: ['options: a wrong option'], why: 'several ToolJets start without a key to seal with' },
  { name: 'secret-option-shown', file: 'config/option-checks.ts', from: 'schema.secret === true', to: 'false', tests: ['options: a wrong option'], why: 'a wrong API token is in the error' },
  { name: 'url-query', file: 'tooljet/target.ts', from: "if (url.search !== '' || url.hash !== '') throw", to: 'if (url.hash === url.search && url.hash !== url.search) throw', tests: ['options: a wrong option'], why: 'a query of the base URL is lost' },
  { name: 'twice-in-scope', file: 'index.ts', from: "Object.hasOwn(fastify, 'tooljetEmbed')", to: "Object.hasOwn(fastify, 'tooljetEmbeds')", tests: ['host: registering twice'], why: 'nobody says how to mend a second registration' },

  // limits
  { name: 'ask-uncounted', file: 'embed.ts', from: 'trail.limit = await limits?.ask(user)', to: 'await user', tests: ['route: each ask is counted'], why: 'asks have no limit' },
  { name: 'stranger-uncounted', file: 'embed.ts', from: 'trail.limit = await limits?.ask(strangerHash(email))', to: 'strangerHash(email)', tests: ['tenants: no tenant'], why: 'who has no ToolJet may fill the audit log' },
  { name: 'malformed-uncounted', file: 'embed.ts', from: 'await this.#enter(request, trail.email, trail)', to: 'await trail.email', tests: ['route: each ask is counted'], why: 'malformed asks have no limit' },
  { name: 'mint-uncounted', file: 'embed.ts', from: 'counted ??= limits?.mint(user)', to: 'counted ??= undefined', tests: ['fleet: one user cannot use up'], why: 'one user uses up the limit of ToolJet' },
  { name: 'mint-counted-in-pause', file: 'embed.ts', from: '      await tooljet.mayBeCalled()\n', to: '', tests: ['fleet: mints are counted only'], why: 'a pause of ToolJet uses up the mints of users' },
  { name: 'limit-per-process', file: 'access/limits.ts', from: 'redis: redisFor(guard, timeWindow), ', to: '', tests: ['fleet: rateLimit max 5'], why: 'the limit holds per process' },
  { name: 'limit-one-counter', file: 'access/limits.ts', from: "counter(scope, 'mints'", to: "counter(scope, 'asks'", tests: ['fleet: mints are counted only'], why: 'asks count as mints' },
  { name: 'limit-for-ever', file: 'access/limits.ts', from: 'if (ttl >= 0) return', to: 'if (ttl >= -9) return', tests: ['reuse: a counter that lost its end'], why: 'a counter without an end refuses its user for ever' },
  { name: 'limit-of-host', file: 'access/limits.ts', from: 'own.hasDecorator = (decorator) => Object.hasOwn(own, decorator)', to: '', tests: ["host: the host's own rate limit"], why: "the limiter is the host's" },
  { name: 'limit-serves', file: 'access/limits.ts', from: 'if (!serveWithoutRedis) return shared', to: '', tests: ["redis-down: 'fail': an outage"], why: "with 'fail' an instance counts on its own, and blames the user for an outage" },
  { name: 'limit-fails', file: 'access/limits.ts', from: 'if (!isRedisDown(error)) throw error\n', to: 'throw error\n', tests: [OUTAGE], why: "with 'serve' nobody is served" },

  // never after its end
  { name: 'life-least-lua', file: 'cache/scripts.ts', from: 'left >= tonumber(least)', to: 'left > 0', tests: [LIFE], why: 'a URL is reused with less than minRemaining left' },
  { name: 'life-least', file: 'cache/urls.ts', from: 'secondsLeft(url) >= ask.app.minRemaining', to: 'secondsLeft(url) > 0', tests: [LIFE], why: 'a URL is reused with less than minRemaining left' },
  { name: 'life-from-answer', file: 'cache/urls.ts', from: '= await mint()\n', to: '= await mint()\n  start = { at: start.at, monotonic: performance.now() }\n', tests: ['reuse: life counts from before'], why: 'life is counted from the answer, and ToolJet counts from the call' },
  { name: 'life-over', file: 'cache/urls.ts', from: 'if (secondsLeft(url) <= 0) throw', to: 'if (secondsLeft(url) < -60) throw', tests: ['reuse: a URL that expired on its way'], why: 'a URL is given after its end' },
  { name: 'life-in-redis', file: 'cache/scripts.ts', from: "redis.call('PEXPIREAT', url, ends)", to: "redis.call('PEXPIREAT', url, ends + 60000)", tests: ['reuse: keys: the prefix first', 'reuse: life counts from before'], why: 'a cached URL outlives its PAT' },
  { name: 'life-deadline', file: 'cache/store.ts', from: 'deadline: askedAt + left, sealed', to: 'deadline: askedAt + 2 * left, sealed', tests: ['fleet: instances whose dates'], why: 'a URL is taken to live for longer than Redis says' },
  { name: 'life-known', file: 'cache/store.ts', from: 'sealed === known.sealed && ', to: '', tests: ['reuse: TOOLJET_TOKENS=insert', 'tenants: who has another token', "redis-down: 'serve': a URL minted"], why: 'an instance goes on with a URL that has been replaced' },
  { name: 'life-memory', file: 'cache/memory.ts', from: 'secondsLeft(url) <= 0', to: 'secondsLeft(url) < -60', tests: ["redis-down: 'serve': no memory entry"], why: 'memory keeps what has ended', equivalent: 'whoever takes a URL from memory looks at its end, too' },
  { name: 'expires-in', file: 'embed.ts', from: 'Math.floor(secondsLeft(url))', to: 'Math.ceil(secondsLeft(url))', tests: [SIGNED_IN], why: 'expiresIn promises more than there is' },
  { name: 'clock-own', file: 'redis/clock.ts', from: 'this.#offset = redisMs - performance.now()', to: 'this.#offset = Date.now() - performance.now() + 0 * redisMs', tests: ['fleet: instances whose dates'], why: 'a wrong date is believed' },
  { name: 'clock-unset', file: 'compose.ts', from: 'clock.set(timeToMs(time))', to: 'timeToMs(time)', tests: ['fleet: instances whose dates'], why: 'an instance believes its own date until it first mints' },
  { name: 'last-seconds', file: 'cache/urls.ts', from: 'return { url: lastUrl, minted: false }', to: 'throw error', tests: ['reuse: a URL in its last seconds'], why: 'an error is given rather than a URL in its last seconds' },
  { name: 'last-seconds-denied', file: 'cache/urls.ts', from: ' || isDenial(error)) throw', to: ') throw', tests: ['reuse: a user who lost access'], why: 'a user who lost access is served' },

  // one mint
  { name: 'lock-short', file: 'tooljet/tooljets.ts', from: 'const lockMs = timeoutMs + 5 * redisTimeoutMs', to: 'const lockMs = 100', tests: ['reuse: asks at once share one mint', 'reuse: those who wait'], why: 'a lock ends before the mint, and a second one begins' },
  { name: 'lock-for-ever', file: 'cache/scripts.ts', from: "redis.call('SET', lock, owner, 'PX', bound)", to: "redis.call('SET', lock, owner)", tests: ['fleet: kill -9'], why: 'a holder that died holds for ever' },
  { name: 'lock-of-others', file: 'cache/scripts.ts', from: "if mine or forgotten then redis.call('DEL', KEYS[1]) end", to: "redis.call('DEL', KEYS[1])", tests: ['redis-down: who gives up a claim'], why: 'who comes late lets go of the lock of another' },
  { name: 'lock-forgotten', file: 'cache/scripts.ts', from: "if mine or forgotten then redis.call('DEL', lock) end", to: "if mine then redis.call('DEL', lock) end", tests: ['reuse: a mint under way when forget'], why: 'a forgotten lock stays' },
  { name: 'lock-wait-for-ever', file: 'cache/urls.ts', from: 'performance.now() > giveUpAt', to: 'performance.now() < 0', tests: ['reuse: whoever waits'], why: 'a wait for the holder has no end' },
  { name: 'store-forgotten', file: 'cache/scripts.ts', from: 'if not mine then return 0 end', to: '', tests: ['reuse: a mint under way when forget'], why: 'what is forgotten during its mint is cached' },
  { name: 'store-older', file: 'cache/scripts.ts', from: "if redis.call('PTTL', old) > left then return 0 end", to: '', tests: ['reuse: of two mints at once'], why: 'an older URL replaces a younger one' },
  { name: 'store-old-stays', file: 'cache/scripts.ts', from: "for _, old in ipairs(olds) do redis.call('DEL', old) end", to: '', tests: ['reuse: what a younger URL replaces'], why: 'a URL that nobody is given again stays in Redis' },
  { name: 'store-late', file: 'cache/urls.ts', from: 'stored ? undefined : await this.#store.look(pair)', to: 'stored ? undefined : undefined as HeldUrl | undefined', tests: ['reuse: of two mints at once', 'reuse: a holder whose lock passed'], why: 'what is given is not the one minted last' },
  { name: 'store-in-mint', file: 'cache/scripts.ts', from: "if redis.call('EXISTS', lock) == 1 then return 0 end", to: '', tests: ["redis-down: 'serve': a URL minted while Redis was away does"], why: 'a dead URL of an outage is served while its successor is minted' },
  { name: 'store-aliases', file: 'tooljet/tooljet.ts', from: 'return [...(id ? [', to: 'return [...(id && !slug ? [', tests: ['reuse: one app under its id and its slug'], why: 'one app under two names has two URLs' },
  { name: 'minted-for-all', file: 'cache/urls.ts', from: 'minted && joined === undefined ?', to: 'minted ?', tests: ['reuse: asks at once share one mint'], why: 'several answers say minted' },
  { name: 'flight-alone', file: 'cache/urls.ts', from: 'const joined = this.#flights.get(pair.name)', to: 'const joined = undefined as Promise<Landed> | undefined', tests: [OUTAGE], why: 'without Redis each ask mints' },
  { name: 'dead-joined', file: 'cache/urls.ts', from: 'if (url.urlId === ask.replaces || secondsLeft(url) <= 0) continue', to: '', tests: ['reuse: who reports a URL dead'], why: 'who reports a URL dead gets it again from a flight under way' },
  { name: 'dead-aliases', file: 'cache/scripts.ts', from: "if id ~= '' and (id == dead or id == unreadable) then\n  redis.call('DEL', key(index, 'url', id))", to: "if id ~= '' and (id == dead or id == unreadable) then", tests: ['reuse: a URL reported dead'], why: "a dead URL is served under the app's other name" },
  { name: 'dead-in-outage', file: 'cache/urls.ts', from: 'if (this.#memory.get(pair.name)?.urlId === ask.replaces) this.#memory.drop(pair.name)', to: '', tests: ["redis-down: 'serve': a URL reported dead"], why: 'without Redis a dead URL is served again' },
  { name: 'waiters-ask-again', file: 'cache/scripts.ts', from: "if denial == '1' or holder == awaited then", to: "if denial == '1' then", tests: ['reuse: those who wait'], why: 'each of those who waited asks ToolJet again' },
  { name: 'denial-forgotten', file: 'cache/scripts.ts', from: "if denial == '1' or holder == awaited then", to: 'if holder == awaited then', tests: ["reuse: ToolJet's denials"], why: "reloads of who may not use up ToolJet's limit" },
  { name: 'denial-long', file: 'cache/store.ts', from: 'DENIAL_MS = 30_000', to: 'DENIAL_MS = 300_000', tests: ["reuse: ToolJet's denials"], why: 'who was let in meanwhile is refused for minutes' },
  { name: 'denial-keeps-url', file: 'cache/scripts.ts', from: "if id and denial == '1' then redis.call('DEL', key(index, 'url', id)) end", to: '', tests: ['reuse: a user who lost access'], why: 'the URL of who lost access stays' },
  { name: 'outcome-for-ever', file: 'cache/scripts.ts', from: "redis.call('SET', outcome, failure, 'PX', life)", to: "redis.call('SET', outcome, failure)", tests: ['reuse: keys: the prefix first'], why: 'a denial is for ever' },
  { name: 'outcome-unknown', file: 'cache/store.ts', from: "Object.hasOwn(errorCodes, code) ? code : 'TOOLJET_EMBED_UNAVAILABLE'", to: 'code', tests: ["reuse: ToolJet's denials"], why: 'a code of another version is a crash of this one' },
  { name: 'index-made-up', file: 'cache/scripts.ts', from: "if id == '' or denial == '1' then redis.call('HDEL', index, app) end", to: '', tests: ['reuse: apps that were only made up'], why: 'made-up apps fill the index' },
  { name: 'index-short', file: 'cache/scripts.ts', from: "if redis.call('PTTL', index) < left then redis.call('PEXPIREAT', index, ends) end", to: '', tests: ['reuse: keys: the prefix first'], why: 'the index ends before its URLs, and forget does not find them' },
  { name: 'forget-in-mint', file: 'cache/scripts.ts', from: "if holder and string.sub(holder, -1) ~= '!' then redis.call('APPEND', lock, '!') end", to: '', tests: ['reuse: a mint under way when forget'], why: 'what is forgotten during its mint is cached' },
  { name: 'forget-twice', file: 'cache/scripts.ts', from: " and string.sub(holder, -1) ~= '!'", to: '', tests: ['reuse: forget twice'], why: 'the lock of who is forgotten twice stays' },
  { name: 'forget-denial', file: 'cache/scripts.ts', from: "redis.call('DEL', key(index, 'outcome', name))", to: '', tests: ["reuse: ToolJet's denials"], why: 'forget leaves a denial behind' },
  { name: 'forget-case', file: 'embed.ts', from: 'const email = parseEmail(given)', to: 'const email = parseEmail(given) && given', tests: ['reuse: forget drops one app'], why: 'forget does not find who is spelled otherwise' },
  { name: 'forget-memory', file: 'cache/memory.ts', from: 'if (key.startsWith(start)) this.#urls.delete(key)', to: '', tests: ["redis-down: 'serve': what was forgotten"], why: 'what is forgotten is served from memory' },

  // secrets
  { name: 'seal-unchecked', file: 'crypto/encryption.ts', from: " + decipher.final('utf8')", to: '', tests: ['properties: what was encrypted'], why: 'a changed or copied value opens' },
  { name: 'seal-nonce', file: 'crypto/encryption.ts', from: 'randomBytes(NONCE_BYTES)', to: 'Buffer.alloc(NONCE_BYTES, randomBytes(0))', tests: ['properties: what was encrypted'], why: 'a nonce is used twice, which breaks the cipher' },
  { name: 'seal-app', file: 'cache/store.ts', from: 'if (appKeys.includes(pair.appKey)) return', to: 'return', tests: ['reuse: a value that was changed'], why: 'a URL opens as one of another app' },
  { name: 'seal-last-key', file: 'crypto/encryption.ts', from: 'this.#keys[0]!', to: 'this.#keys.at(-1)!', tests: ['reuse: encryptionKey'], why: 'the old key goes on sealing' },
  { name: 'seal-short', file: 'crypto/encryption.ts', from: 'ciphertext.length < NONCE_BYTES + TAG_BYTES', to: 'ciphertext.length < 0', tests: ['reuse: a value that was changed'], why: 'rubbish in Redis is a crash' },
  { name: 'key-cheap', file: 'crypto/secret-keys.ts', from: 'N: 2 ** 15', to: 'N: 2 ** 10', tests: ['secret-keys: point 14: a guess'], why: 'a weak secret is guessed from a key name' },
  { name: 'key-purposes', file: 'crypto/secret-keys.ts', from: 'SALT, purpose, KEY_BYTES', to: 'SALT, purpose.slice(0, 0), KEY_BYTES', tests: ['secret-keys: point 14: keys are derived'], why: 'one key has several purposes' },
  { name: 'key-again', file: 'crypto/secret-keys.ts', from: 'derived.set(secret, keys)', to: '', tests: ['secret-keys: point 14: keys are derived'], why: 'each registration derives anew' },
  { name: 'key-short', file: 'config/options.ts', from: 'minLength: 16', to: 'minLength: 1', tests: ['options: a wrong option'], why: 'a key that is soon guessed is accepted' },
  { name: 'key-of-token', file: 'index.ts', from: 'if (options.encryptionKey === undefined) fastify.log.warn', to: 'if (options.encryptionKey === null) fastify.log.warn', tests: ['secret-keys: point 14: the log warns'], why: 'nobody learns that the token stands in for a key' },
  { name: 'names-newest', file: 'index.ts', from: "keysFor('key names').at(-1)!", to: "keysFor('key names')[0]!", tests: ['reuse: encryptionKey'], why: 'a rotation moves all names' },
  { name: 'names-of-token', file: 'tooljet/tooljets.ts', from: 'new KeyNames(namesKey, option.url)', to: 'new KeyNames(namesKey, JSON.stringify(option))', tests: ['secret-keys: point 14: with an encryptionKey'], why: 'a new token moves all names' },
  { name: 'url-id-of-token', file: 'cache/urls.ts', from: 'redirectUrl, urlId: newId(),', to: 'redirectUrl, urlId: /pat_(\\w{16})/.exec(redirectUrl)?.[1] ?? newId(),', tests: [SIGNED_IN], why: 'the id of a URL is a part of its token' },
  { name: 'secret-client-text', file: 'observability/foreign.ts', from: ".replace(SECRETS, '[redacted]')", to: '', tests: ['audit: what a client chose', 'secrets: after a full run'], why: 'a token pasted into a header is in the audit log' },
  { name: 'secret-cause', file: 'tooljet/client.ts', from: "detail: 'it cannot be reached', cause: plainError(error)", to: "detail: 'it cannot be reached', cause: error", tests: ['tooljet: what ToolJet sent'], why: 'a reply of ToolJet is in an error' },
  { name: 'secret-redis-error', file: 'errors.ts', from: "Object.assign(new Error(message), typeof code === 'string' && { code })", to: 'error as Error', tests: ['secrets: what Redis refuses', 'tooljet: what ToolJet sent'], why: "a command's arguments are in a log line" },
  { name: 'secret-target', file: 'tooljet/tooljets.ts', from: '{ err: error, host }', to: '{ err: error, host, target }', tests: ['tenants: a wrong target'], why: 'an API token is in a log line' },
  { name: 'secret-trace', file: 'embed.ts', from: 'told.urlId = url.urlId', to: 'told.urlId = url.redirectUrl', tests: ['tracing: no message holds'], why: 'subscribers get the URL' },
  { name: 'secret-trace-error', file: 'observability/tracing.ts', from: 'throw asTold(error)', to: 'throw error', tests: ['tracing: no message holds', 'tracing: the channels tell of failures'], why: 'subscribers get the cause of an error' },
  { name: 'secret-label', file: 'observability/metrics.ts', from: 'CODES.includes(code) ? code : OTHER', to: 'code', tests: ['metrics: no label holds'], why: 'a label may be anything' },
  { name: 'secret-password', file: 'cli/text.ts', from: "text.replace(PASSWORD, '//***@')", to: 'text', tests: ['cli: wrong usage'], why: "the command line shows Redis's password" },
  { name: 'secret-file', file: 'cli/export-file.ts', from: '0o600', to: '0o644', tests: ['cli-live: export --out'], why: 'anyone may read what was exported' },
  { name: 'tenants-url', file: 'tooljet/tooljets.ts', from: 'new KeyNames(namesKey, option.url)', to: "new KeyNames(namesKey, '')", tests: ['reuse: two ToolJets'], why: 'two ToolJets share URLs' },
  { name: 'tenants-token', file: 'tooljet/tooljets.ts', from: 'JSON.stringify([target.url, target.apiToken])', to: 'target.url', tests: ['tenants: who has another token'], why: 'who has another token is given what is cached' },
  { name: 'tenants-known', file: 'tooljet/tooljets.ts', from: 'JSON.stringify([target.url, target.apiToken,', to: 'JSON.stringify([target.url,', tests: ['tenants: who has another token'], why: 'a customer calls ToolJet with the token of another' },

  // ToolJet
  { name: 'deadline-mint', file: 'tooljet/client.ts', from: 'this.#timers.after(this.#timeoutMs, ()', to: 'this.#timers.after(100 * this.#timeoutMs, ()', tests: ['tooljet: one deadline covers'], why: 'a mint has no deadline' },
  { name: 'retry-sent', file: 'tooljet/client.ts', from: ' || !NOT_REACHED.has(systemCodeOf(error))', to: '', tests: [ONCE], why: 'a mint is sent twice' },
  { name: 'retry-500', file: 'tooljet/client.ts', from: 'status === 502 ||', to: 'status === 502 || status === 500 ||', tests: [ONCE], why: 'a mint is sent twice' },
  { name: 'retry-more', file: 'tooljet/client.ts', from: 'MAX_RETRIES = 2', to: 'MAX_RETRIES = 3', tests: ['tooljet: 502 and 503'], why: 'a ToolJet in trouble is called more' },
  { name: 'reply-endless', file: 'tooljet/client.ts', from: 'if (bytes > MAX_REPLY_BYTES) throw', to: 'if (bytes < 0) throw', tests: ['tooljet: an endless body', 'route: ToolJet: endless reply'], why: 'a reply has no bound' },
  { name: 'reply-origin', file: 'tooljet/replies.ts', from: '!origins.includes(url.origin)', to: 'origins.length === 0', tests: ['route: ToolJet: foreign redirectUrl'], why: 'a URL of anywhere is given' },
  { name: 'reply-credentials', file: 'tooljet/replies.ts', from: "if (url.username !== '' || url.password !== '') throw", to: "if (url.host === '') throw", tests: ['tooljet: embedOrigins names'], why: 'a URL with credentials is given' },
  { name: 'reply-server-refused', file: 'tooljet/replies.ts', from: 'message.trim().toLowerCase()', to: 'message', tests: ['route: ToolJet: bad API token'], why: 'a user is blamed for a bad API token' },
  { name: 'reply-form', file: 'tooljet/replies.ts', from: '!Value.Check(ToolJetError, json)', to: '!Value.Check(Refused, json)', tests: ["verdicts: not ToolJet's verdict: Azure API Management"], why: "a gateway's refusal is remembered as ToolJet's denial of a user" },
  { name: 'reply-form-status', file: 'tooljet/replies.ts', from: ' || json.statusCode !== status', to: '', tests: ["verdicts: not ToolJet's verdict: another status inside"], why: "a gateway's refusal is remembered as ToolJet's denial of a user" },
  { name: 'reply-form-twice', file: 'tooljet/replies.ts', from: 'json.error === message ?', to: "json.error === '' ?", tests: ["verdicts: not ToolJet's verdict: a server made with Fastify"], why: "a gateway's refusal is remembered as ToolJet's denial of a user" },
  { name: 'reply-route', file: 'tooljet/replies.ts', from: '/^(?:cannot|route) post\\b/i', to: '/^nothing$/', tests: ["verdicts: not ToolJet's verdict: Fastify without a route"], why: 'an app is blamed for an address that is wrong' },
  { name: 'retry-422', file: 'tooljet/client.ts', from: '(status === 422 && tries === 1)', to: '(status === 0 && tries === 1)', tests: ['verdicts: a status 422'], why: 'two mints at once are an outage' },
  { name: 'pause-untold', file: 'tooljet/tooljet.ts', from: 'if (pause !== undefined) await this.#gate.pause(pause)', to: '', tests: [PAUSE], why: "ToolJet's 429 pauses nobody" },
  { name: 'pause-local', file: 'tooljet/gate.ts', from: "if paused > 0 then return { 'paused', paused, 0 } end", to: '', tests: [PAUSE], why: "ToolJet's 429 does not pause the fleet" },
  { name: 'pause-in-outage', file: 'tooljet/gate.ts', from: 'Math.max(this.#pausedUntil, performance.now() + ms)', to: '0 * ms', tests: ["redis-down: 'serve': ToolJet's pause"], why: 'a pause ends with Redis' },
  { name: 'pause-shorter', file: 'tooljet/gate.ts', from: "if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then", to: 'if true then', tests: ['reuse: a shorter pause'], why: 'a shorter pause ends a longer one' },
  { name: 'pause-year', file: 'tooljet/replies.ts', from: 'Math.min(Math.max(asked, 1), MAX_PAUSE_SECONDS)', to: 'Math.max(asked, 1)', tests: ['reuse: pause: 429 with a year'], why: 'a mistake of ToolJet pauses for a year' },
  { name: 'pause-date', file: 'tooljet/replies.ts', from: '(Number.isNaN(sent) ? Date.now() : sent)', to: 'Date.now()', tests: ['reuse: pause: 429 with a date'], why: "a pause is counted by this machine's date" },
  { name: 'probe-each', file: 'tooljet/tooljet.ts', from: 'await this.#gate.enter()', to: 'await this.#gate', tests: [PROBES], why: 'a ToolJet that is down is called by all' },
  { name: 'probe-after-success', file: 'tooljet/gate.ts', from: 'if (this.#failures === 0) return', to: 'if (this.#failures < MAX_FAILURES) return', tests: ['tooljet: failures with a success'], why: 'failures with successes between them count as in a row' },
  { name: 'probe-in-outage', file: 'tooljet/gate.ts', from: 'if (this.#failures >= MAX_FAILURES) this.#probingUntil', to: 'if (this.#failures < 0) this.#probingUntil', tests: ["redis-down: 'serve': repeated failures"], why: 'without Redis a ToolJet that is down is called by all' },
  { name: 'probe-ttl', file: 'tooljet/gate.ts', from: "redis.call('PEXPIRE', KEYS[1], ARGV[1])", to: '', tests: [PROBES], why: 'failures count for ever, and a key has no end' },
  { name: 'retry-after-zero', file: 'errors.ts', from: 'Math.max(1, Math.ceil(retryAfter))', to: 'Math.floor(retryAfter)', tests: ['reuse: pause: 503 with Retry-After'], why: 'Retry-After is too early' },
  { name: 'trouble-each', file: 'tooljet/tooljet.ts', from: 'if (before?.code === trouble?.code && before?.mend === trouble?.mend) return', to: '', tests: ['route: the operator is told'], why: 'a line of log for each mint' },
  { name: 'pools-leaving', file: 'tooljet/pools.ts', from: '[...this.#open.values(), ...this.#leaving]', to: '[...this.#open.values()]', tests: ['tenants: an app that closes'], why: 'close waits for calls of a pool that had to leave' },

  // Redis, and being without it
  { name: 'deadline-redis', file: 'redis/guard.ts', from: 'await withDeadline(command(this.#redis), this.#deadlineMs)', to: 'await command(this.#redis)', tests: [OUTAGE], why: 'a stuck Redis hangs the host' },
  { name: 'deadline-each', file: 'redis/guard.ts', from: "if (this.down) throw embedError('TOOLJET_EMBED_REDIS_DOWN')\n", to: '', tests: [OUTAGE], why: 'each ask waits for a Redis that is away' },
  { name: 'close-in-handshake', file: 'redis/connect.ts', from: "stream?.on('error', () => {})", to: 'void stream', tests: ['topologies: TLS: who closes'], why: 'a host that closes while TLS begins is ended by an error that nobody listens for' },
  { name: 'deadline-start', file: 'compose.ts', from: 'Promise.race([clockIsSet, sleep(MAX_START_WAIT_MS, undefined, { ref: false })])', to: 'clockIsSet', tests: ['redis-down: a host starts while Redis'], why: 'a long redisTimeoutMs delays the start until Fastify gives up' },
  { name: 'redis-undo', file: 'redis/guard.ts', from: 'if (undo !== undefined) this.post(undo)', to: '', tests: ['redis-down: a claim or store'], why: 'a lock stays that nobody knows of' },
  { name: 'redis-let-go', file: 'cache/store.ts', from: 'this.#guard.post((redis) => RELEASE.run(redis, [pair.lock], [owner]))', to: '', tests: ['redis-down: a claim or store'], why: 'a lock stays that nobody holds' },
  { name: 'redis-one-key', file: 'redis/guard.ts', from: '/\\bWRONGTYPE\\b/.test(error.message)', to: "error.message === ''", tests: ['redis-down: a key of another type'], why: "one user's broken key is an outage for all" },
  { name: 'redis-probe', file: 'redis/guard.ts', from: 'PROBE.run(this.#redis, [this.#probeKey], [])', to: 'this.#redis.ping()', tests: ['redis-down: a Redis that is full'], why: 'a Redis that takes no writes is back each second' },
  { name: 'redis-one-line', file: 'redis/guard.ts', from: 'if (this.down) return\n', to: '', tests: [OUTAGE, 'redis-down: a Redis that stops answering under load'], why: 'several lines of log and several probes for one outage' },
  { name: 'redis-one-write', file: 'redis/guard.ts', from: '    this.#gather()\n', to: '', tests: ['reuse: what is asked of Redis'], why: 'a system call for each command' },
  { name: 'redis-closed', file: 'redis/connect.ts', from: 'disconnect: () => {} }', to: 'disconnect: () => (redis as unknown as { disconnect (): void }).disconnect() }', tests: ["host: a Redis client of the host's"], why: "the host's client is closed" },
  { name: 'redis-left-open', file: 'compose.ts', from: 'closers.add(disconnect)', to: 'closers.add(() => {})', tests: ["host: a Redis client of the host's", 'closing: a host that has closed'], why: 'a process does not end' },
  { name: 'start-left-open', file: 'closers.ts', from: 'await this.close(FAILED_START_MS)', to: 'await Promise.resolve()', tests: ['failing-start: a start that fails leaves'], why: 'a start that fails leaves its connection to Redis' },
  { name: 'start-unawaited', file: 'index.ts', from: 'await fastify.register(routes(', to: 'fastify.register(routes(', tests: ['failing-start: a start that fails leaves'], why: 'a path that is taken leaves a connection to Redis' },
  { name: 'redis-health', file: 'index.ts', from: '.then(() => true, () => false)', to: '.then(() => true, () => true)', tests: [OUTAGE], why: 'health calls a Redis up that is away' },
  { name: 'health-each', file: 'tooljet/pauses.ts', from: 'redis.nodes === undefined || keys.length === 1', to: 'keys.length === 0', tests: ['health: the health of 300'], why: 'a scrape asks Redis about each tenant' },
  { name: 'fail-serves', file: 'cache/urls.ts', from: '!this.#serveWithoutRedis || !isRedisDown(error)', to: '!isRedisDown(error)', tests: ["redis-down: 'fail': 503"], why: "with 'fail' an instance mints on its own" },
  { name: 'outage-unsaved', file: 'cache/urls.ts', from: 'own?.unsavedAs !== undefined && await', to: 'own?.sealed !== undefined && own.unsavedAs !== undefined && await', tests: ["redis-down: 'serve': a URL minted"], why: 'what was minted in an outage stays with one instance' },
  { name: 'outage-error', file: 'cache/urls.ts', from: '.catch(ignoreRedisDown)', to: '', tests: ["redis-down: 'serve': no memory entry"], why: "ToolJet's failure is blamed on Redis, and ToolJet is asked again" },

  // audit
  { name: 'audit-failure', file: 'embed.ts', from: '    } catch (error) {\n      this.#recordFailure(request, trail, error)\n', to: '    } catch (error) {\n', tests: ['audit: every kind of answer'], why: 'a refusal leaves no event' },
  { name: 'audit-malformed', file: 'embed.ts', from: '    this.#recordFailure(request, trail, error)\n    throw error\n  }\n\n  /** Tells', to: '    throw error\n  }\n\n  /** Tells', tests: [NAMED], why: 'a malformed ask leaves no event' },
  { name: 'audit-twice', file: 'embed.ts', from: 'trail.settled = true\n    const event', to: 'const event', tests: ['route: authorize decides', 'tenants: the function is asked once'], why: 'an error of the host leaves two events' },
  { name: 'audit-401', file: 'errors.ts', from: 'if (status === 401) return undefined', to: '', tests: ['route: authorize decides'], why: "the host's 401 is in the audit log" },
  { name: 'audit-unauthenticated', file: 'errors.ts', from: 'status: 401, event: undefined', to: "status: 401, event: 'url.denied'", tests: [NOBODY], why: 'anyone may fill the audit log' },
  { name: 'audit-forget', file: 'embed.ts', from: 'audit.record({ ...event, durationMs', to: 'void ({ ...event, durationMs', tests: ['reuse: forget drops one app'], why: 'forget leaves no event' },
  { name: 'audit-not-awaited', file: 'audit/audit.ts', from: 'if (this.#isRequired) await this.#writer.addAndWait(this.#stamp(event))', to: 'if (this.#isRequired) this.record(event)', tests: [REQUIRED], why: "with 'required' a URL leaves before its event is written" },
  { name: 'audit-mint-first', file: 'embed.ts', from: 'audit.mustBeWritable() // no mint', to: '// no mint', tests: [REQUIRED], why: 'a URL is minted that cannot leave' },
  { name: 'audit-mint-then', file: 'embed.ts', from: '    })\n    audit.mustBeWritable()\n', to: '    })\n', tests: ["audit: delivery 'required': a URL"], why: 'a URL that did not leave has an event that says so, later' },
  { name: 'audit-hang', file: 'audit/writer.ts', from: 'for (const pending of this.#queue) pending.failed?.(error)', to: 'void error', tests: [REQUIRED], why: "with 'required' an ask waits for Redis without an end" },
  { name: 'audit-in-doubt', file: 'audit/writer.ts', from: 'this.#inDoubt = true', to: 'this.#inDoubt = false', tests: ['audit: events in doubt', 'audit: a batch that lands'], why: 'a batch whose answer was lost is written twice' },
  { name: 'audit-resend', file: 'audit/append.ts', from: 'if seq > written then', to: 'if seq > 0 then', tests: ['audit: a batch is written once', 'audit: a client that resends'], why: 'a batch that is sent again is written twice' },
  { name: 'audit-latest', file: 'audit/append.ts', from: 'LATEST_MS = 10_000', to: 'LATEST_MS = 10_000_000', tests: ['audit: a batch is written once', 'audit: a batch that Redis refuses'], why: 'a batch that was held up is written again' },
  { name: 'audit-bound', file: 'audit/writer.ts', from: ' || this.#queue.length >= this.#maxBacklog', to: '', tests: ['audit: past the bound'], why: 'events that wait fill the memory' },
  { name: 'audit-exit', file: 'audit/writer.ts', from: '      this.#onLost(fields)\n      failed', to: '      failed', tests: ['audit: what cannot be written at exit'], why: 'events are lost at exit' },
  { name: 'audit-closed', file: 'audit/audit.ts', from: "this.record({ event: 'audit.closed' })", to: '', tests: ['fleet: an instance that is stopped', 'audit: audit.logger'], why: 'a chain has no end' },
  { name: 'audit-trim', file: 'audit/append.ts', from: 'pcall(findExcess)', to: 'true', tests: ['audit: the stream is trimmed'], why: 'the audit log grows' },
  { name: 'audit-trim-unsent', file: 'audit/writer.ts', from: 'if (excess !== undefined) await this.#stream.trim(excess)', to: '', tests: ['audit: the stream is trimmed'], why: 'what is too much is found and stays' },
  { name: 'audit-trim-one-key', file: 'audit/append.ts', from: 'pcall(trimIndex, KEYS[i])', to: 'true, trimIndex(KEYS[i])', tests: ['audit-queries: an index that cannot be trimmed'], why: 'one odd key leaves the entries of all others in their indexes for ever' },
  { name: 'audit-undeclared', file: 'audit/append.ts', from: "local key, first, further = KEYS[number], ids, ''", to: "local key, first, further = KEYS[number] .. ':of', ids, ''", tests: ['declared-keys: every script declares'], why: 'a server that insists on declared keys refuses the audit log' },
  { name: 'audit-trim-told', file: 'audit/stream.ts', from: ' || this.#hasToldAboutTrimming', to: '', tests: ['audit: who may not trim'], why: 'a line of log for each batch' },
  { name: 'audit-index', file: 'audit/append.ts', from: 'if email > 0 then index(email, last) end', to: '', tests: ['audit-queries: the indexes hold'], why: 'a query for a user finds nothing' },
  { name: 'audit-index-cut', file: 'audit/append.ts', from: 'reachesPast and before[1] or keep', to: 'keep', tests: ['audit-queries: the indexes hold'], why: 'trimming takes events that are there out of the index' },
  { name: 'audit-index-name', file: 'audit/indexes.ts', from: "createHash('sha1').update(email).digest('hex').slice(0, 20)", to: "createHash('sha1').digest('hex') && email", tests: ['reuse: keys: the prefix first'], why: 'key names carry e-mails' },
  { name: 'audit-hmac', file: 'audit/audit.ts', from: "=== 'hmac' ?", to: "=== 'email' && false ?", tests: ["audit-queries: identity 'hmac'"], why: 'a log that names nobody names people' },
  { name: 'audit-hmac-ip', file: 'audit/pseudonyms.ts', from: 'ip: _, userAgent: __, ', to: '', tests: ["audit-queries: identity 'hmac'"], why: 'a log that names nobody has addresses' },
  { name: 'audit-hmac-keyless', file: 'audit/pseudonyms.ts', from: "createHmac('sha256', key)", to: "createHmac('sha256', key.subarray(0, 0))", tests: ["audit-queries: identity 'hmac'", 'cli: a log with pseudonyms'], why: 'who has no key can tell who it was' },
  { name: 'audit-well-formed', file: 'audit/event.ts', from: '.toWellFormed()', to: '', tests: ['audit-verify: verify holds for what a client sent'], why: 'half a character makes an honest event look forged' },
  { name: 'chain-link', file: 'audit/chain.ts', from: 'JSON.stringify([previous, sorted])', to: 'JSON.stringify([sorted])', tests: ['audit-verify: a mac covers'], why: 'an event may be taken out' },
  { name: 'chain-equal', file: 'audit/chain.ts', from: ' && timingSafeEqual(given, expected)', to: '', tests: ['audit-verify: verify names an event that was changed'], why: 'any mac fits' },
  { name: 'verify-gap', file: 'audit/verify.ts', from: 'came.seq > this.#lastSeq + 1', to: 'came.seq > this.#lastSeq + 2', tests: ['audit-verify: verify names an event that was deleted'], why: 'one missing event does not show as such' },
  { name: 'verify-twice', file: 'audit/verify.ts', from: 'if (gap === undefined) return this.#wrong(', to: 'if (gap === undefined) return void (', tests: ['audit-verify: verify names an event that is there twice'], why: 'an event that is there twice does not show' },
  { name: 'verify-deleted', file: 'audit/verify.ts', from: 'stream?.deleted === undefined && ', to: '', tests: ['audit-verify: verify sees that the first or the last'], why: 'that the last event was deleted does not show' },
  { name: 'verify-late-forged', file: 'audit/verify.ts', from: 'if (seq === gap.from && !this.#fits(gap.macBefore, came)) this.#forged(came)', to: '', tests: ['audit-verify: verify names events out of order', 'audit-verify: verify names an event that was written with another key'], why: 'a forged event that comes late does not show as such' },
  { name: 'query-bound', file: 'audit/queries.lua', from: 'if looked == LOOKS_AT then return last end', to: '', tests: ['audit-queries: a query looks at 250'], why: 'a query holds up Redis' },
  { name: 'query-straddling', file: 'audit/queries.lua', from: "local straddling = ascending and low and redis.call('XREVRANGE', index, low, '-', 'COUNT', 1)[1]", to: 'local straddling = nil', tests: ['audit-queries: a query gives what a look'], why: 'a query leaves out events of the first batch' },
  { name: 'query-leap', file: 'audit/queries.lua', from: '(year % 4 == 0 and year % 100 ~= 0) or year % 400 == 0', to: 'year % 4 == 0', tests: ['audit-queries: times'], why: 'times after February 2100 are a day off' },
  { name: 'query-users', file: 'audit/queries.lua', from: 'if email and not row.users[email] then', to: 'if email then', tests: ['audit-queries: stats count'], why: 'a user counts twice' },
  { name: 'query-code', file: 'audit/queries.lua', from: "and not (fields[i] == 'code' and fields[i + 1] == long_code)", to: '', tests: ['cli: query: every filter'], why: 'a code has to be written in full' },
  { name: 'query-newer', file: 'audit/library.ts', from: 'if (loaded < VERSION)', to: 'if (loaded !== 0)', tests: ['audit-queries: the plugin loads'], why: 'an older instance takes away newer queries' },
  { name: 'query-fallback', file: 'audit/reader.ts', from: '/function not found|unknown command/i', to: '/function not found, unknown command/i', tests: ['audit-queries: a reader falls back'], why: 'without functions there are no queries' },

  // around it
  { name: 'trace-idle', file: 'embed.ts', from: 'if (!urlChannel.hasSubscribers) return', to: 'if (urlChannel === undefined) return', tests: ['tracing: without subscribers'], why: 'tracing costs without subscribers' },
  { name: 'metrics-of-others', file: 'observability/metrics.ts', from: 'if (!this.#sources.has(instance)) return\n', to: '', tests: ['metrics: registrations with one registry', 'metrics: gauges tell the worst'], why: 'answers of a registration without metrics are counted' },
  { name: 'metrics-worst', file: 'observability/metrics.ts', from: "all.every(({ redis }) => redis.state === 'up')", to: "all.some(({ redis }) => redis.state === 'up')", tests: ['metrics: gauges tell the worst'], why: 'an outage does not show beside a registration that is well' },
  { name: 'client-cached', file: 'http/client-module.ts', from: 'const isNamed = request.query.v === hash', to: 'const isNamed = request.query.v !== null', tests: ['client: the plugin serves the module'], why: 'an old module is kept for ever' },
  { name: 'client-endpoint', file: 'http/client-module.ts', from: 'source.replace(DEFAULT_ENDPOINT, () => endpoint)', to: 'source.replace(endpoint, () => endpoint)', tests: ['client: the plugin serves the module'], why: 'a page asks a route that has been moved' },
  { name: 'cli-verdict', file: 'cli/commands/verify.ts', from: 'return report.ok ? EXIT.fine : EXIT.notIntact', to: 'return EXIT.fine', tests: ['cli: verify: an intact log'], why: 'a cron job does not learn that the log was changed' },
  { name: 'cli-terminal', file: 'cli/text.ts', from: '\\p{Cc}\\p{Cf}', to: '\\p{Cc}', tests: ['cli: what a client chose'], why: 'a user agent steers the terminal' },
  { name: 'cli-torn', file: 'cli/export-file.ts', from: 'if (end < stat.size) await handle.truncate(end)', to: '', tests: ['cli-live: export --out'], why: 'a torn line stays in the file' },
  { name: 'page-log-out', file: 'browser/keeper.ts', from: ' && new URL(mount.redirectUrl).origin === origin', to: '', tests: ['client-sessions: the log-out message'], why: 'a log-out of another origin is believed' },
  { name: 'page-login', file: 'browser/keeper.ts', from: "if (mount === shown) return lose(mount, 'navigated')", to: '', tests: ['client-sessions: ToolJet goes to its login page'], why: "the user sees ToolJet's login page" },
  { name: 'page-retry-after', file: 'browser/keeper.ts', from: 'mustWait = isFinal || retryAfter > 0', to: 'mustWait = isFinal', tests: ['client-heal: a 429 is waited for'], why: 'a page asks before the server said' },

  // what a look from outside found
  { name: 'text-unbounded', file: 'observability/foreign.ts', from: '.slice(0, LOOKED_AT)', to: '', tests: ['secrets: a token is not told'], why: 'one long header keeps the process busy for seconds' },
  { name: 'secret-code', file: 'errors.ts', from: "foreign(code) || 'ERROR'", to: "code || 'ERROR'", tests: ['secrets: a token is not told'], why: "a token in the code of a host's error is in the audit log" },
  { name: 'half-character', file: 'audit/event.ts', from: 'value.toWellFormed()', to: 'value', tests: ['audit-verify: half a character'], why: 'one event that cannot be written holds up all others' },
  { name: 'names-cached', file: 'audit/chain.ts', from: 'const names = sortedNames(fields)', to: 'const names = ownNames(fields)', tests: ['audit-verify: names that were made up'], why: 'a forged entry changes what the macs of others cover' },
  { name: 'ahead-of-authorize', file: 'embed.ts', from: 'authorize === undefined ? found : undefined', to: 'found', tests: ['reuse: what is forgotten while'], why: 'a forgotten URL is given' },
  { name: 'pause-of-one', file: 'observability/metrics.ts', from: 'tooljets.map(({ pausedFor = 0 }) => pausedFor)', to: '[tooljet.pausedFor ?? 0]', tests: ['tenants: of several pauses'], why: 'the pause of one ToolJet hides behind the failure of another' },
  { name: 'users-each', file: 'crypto/names.ts', from: 'max: maxUsers', to: 'max: MAX_USERS', tests: ['tenants: many ToolJets'], why: 'each ToolJet takes memory for ten thousand users' },
  { name: 'mint-after-close', file: 'tooljet/pools.ts', from: 'if (this.#closed) throw', to: 'if (false) throw', tests: ['closing: what asks on'], why: 'connections are opened that nobody closes' },
  { name: 'ahead-not', file: 'embed.ts', from: 'app && urls.lookAhead(user, app)', to: 'undefined as ReturnType<Urls[\'lookAhead\']> | undefined', tests: ['reuse: a hit asks Redis once'], why: 'a hit waits for Redis twice' },
  { name: 'write-each', file: 'redis/guard.ts', from: '    this.#gather()\n', to: '', tests: ['reuse: what is asked of Redis'], why: 'each command is a system call of its own' },
]
