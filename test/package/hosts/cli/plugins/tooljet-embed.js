export { default } from 'fastify-tooljet-embed'

export const autoConfig = ({ config }) => ({
  tooljet: { url: config.TOOLJET_URL, apiToken: config.TOOLJET_API_TOKEN },
  redis: config.REDIS_URL,
  apps: { sales: { appId: '8ba8bf0e-6b8f-4e07-abb9-6fd2d816fabc' } },
})
