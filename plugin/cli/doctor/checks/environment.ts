import { findingsOf, type Finding } from '../finding.js'

const { fine, note, problem } = findingsOf('environment')

/** Checks the variables themselves. */
export function * examineEnvironment (env: NodeJS.ProcessEnv, hasKey: boolean): Generator<Finding> {
  const { TOOLJET_API_TOKEN: token = '', ENCRYPTION_KEY: key = '', NODE_TLS_REJECT_UNAUTHORIZED: tls } = env
  yield fine('node', `Node.js ${process.versions.node}`)
  const wrong = problemOfToken(token)
  if (wrong !== undefined) yield problem('token-form', ...wrong)
  if (!hasKey) yield note('key', 'without ENCRYPTION_KEY the keys come from TOOLJET_API_TOKEN: whoever changes that loses the cache and the proof of the audit log', 'set ENCRYPTION_KEY to at least 16 random characters, and keep it')
  else if (key !== '' && key === token) yield problem('key', 'ENCRYPTION_KEY is the same as TOOLJET_API_TOKEN', 'choose another: they have different readers, and are changed at different times')
  else yield fine('key', 'there is an encryption key of its own')
  if (tls === '0') yield problem('tls', 'NODE_TLS_REJECT_UNAUTHORIZED is 0: any certificate is believed', 'take it away; NODE_EXTRA_CA_CERTS names a file of certificates to trust')
}

function problemOfToken (token: string): [text: string, remedy: string] | undefined {
  if (/^bearer /i.test(token)) return ['TOOLJET_API_TOKEN begins with the name of a scheme', 'give the token alone: "Basic " is put before it']
  if (/^(["']).*\1$/.test(token)) return ['TOOLJET_API_TOKEN has quotes around it', 'leave them out: they are sent, too']
  if (/^tj_pat_/.test(token)) return ['TOOLJET_API_TOKEN is a workspace PAT (tj_pat_…), which is for another API', 'give what EXTERNAL_API_ACCESS_TOKEN is at ToolJet']
  if (/^[\w+/]{8,}={0,2}$/.test(token) && /^[\x20-\x7e]+:[\x20-\x7e]+$/.test(Buffer.from(token, 'base64').toString('latin1'))) {
    return ['TOOLJET_API_TOKEN is the base64 of a user and a password', 'give what EXTERNAL_API_ACCESS_TOKEN is at ToolJet: it is compared as it stands']
  }
  return undefined
}
