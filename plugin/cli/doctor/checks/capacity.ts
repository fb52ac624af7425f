import { perMinute, type MintLimit } from '../../../tooljet/mint-limit.js'
import { grouped } from '../../text.js'
import { findingsOf, type Finding } from '../finding.js'

const { fine, note, problem } = findingsOf('capacity')

const DOCUMENTED = { max: 10, timeWindow: 60_000 }
/** For what is between a slot and the call. */
const SPARE = 1.02

/** The rule of docs/capacity.md: how many pairs of a user and an app can have a URL at the same time. */
export function * examineCapacity (limit: MintLimit, { patExpiry, minRemaining }: { patExpiry: number, minRemaining: number }, pairs: number | undefined): Generator<Finding> {
  if (limit === false) {
    yield fine('pairs', 'ToolJet is taken to mint for all at once (--mint-limit none)')
    return
  }
  const granted = perMinute(limit === 'auto' ? DOCUMENTED : limit)
  const served = Math.floor(granted * (patExpiry - minRemaining) / 60)
  const law = `with ${granted} mints a minute${limit === 'auto' ? ' (ToolJet\'s documented limit)' : ''} and a patExpiry of ${grouped(patExpiry)} s, ${grouped(served)} pairs of a user and an app can have a URL at the same time`
  if (pairs === undefined) yield note('pairs', law, '--pairs N tells whether that is enough')
  else if (pairs <= served) yield fine('pairs', law)
  else yield problem('pairs', `${law}, and there are ${grouped(pairs)}`, `set patExpiry to ${Math.ceil(SPARE * pairs * 60 / granted + minRemaining)}, which a URL that leaks works for, too; docs/capacity.md has more`)
}
