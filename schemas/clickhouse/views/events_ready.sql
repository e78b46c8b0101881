-- Each event once, with what every product needs: its day in the business's time zone, whether a bot sent it, browser and
-- system by the User-Agent, and the country by the address. The other views of this folder read this one.
-- The canary's synthetic events are left out (consumer/operations/canary.py).
-- {time_zone} is CONSUMER_TIME_ZONE, {country} asks the dictionary `countries` once `python -m consumer countries` has made it.
--
-- User-Agents are looked at once for each that a block has, as LowCardinality. Android and Facebook's browser name the phone's
-- model in a known place, and makers call phones CUBOT, M bot and Spider: that place is left out before a bot's name is
-- looked for, in two steps, because one pattern for both would read a long text again for each match. A bot's name ends in "bot", or has a word of the list, or an address of its makers.
-- Of several patterns the first that fits names browser and system, so apps and rarer browsers come before those whose
-- names they bear too. What no pattern knows is empty.
CREATE OR REPLACE VIEW events_ready AS
WITH
    toLowCardinality(left(user_agent, 1024)) AS _agent,
    concat(
        '(?i)(?:^u?|[^u]|[^c]u)bots?(?:[^a-z]|$)',
        '|(?:^|[^a-z])(?:[a-z]*(?:crawler|spider|scraper|slurp|fetcher|checker|preview|monitor|validator|scanner|archiver|indexer',
        '|externalhit|externalagent)|crawl|crawling|fetch|monitoring|headless[a-z]*|phantomjs|lighthouse|heritrix|httrack|nutch|zgrab',
        '|masscan|pingdom|gtmetrix|statuscake|ptst|googleother|google-[a-z-]+|[a-z]+-google|subscribers)s?(?:[^a-z]|$)',
        '|https?:/',
        '|^(?:curl|wget|python|java|go-http|libwww|lwp|perl|php|ruby|apache-http(?:client)?|axios|node|undici|scrapy|guzzle(?:http)?|postman(?:runtime)?|facebookcatalog|aiohttp|httpx|whatsapp)(?:[^a-z]|$)'
    ) AS _bots
SELECT
    *,
    toDate(occurred_at, '{time_zone}') AS day,
    CAST(match(replaceRegexpAll(replaceRegexpAll(_agent, 'Android[^;()]*[;(](?:[^()]|\\([^()]*\\))*\\)', ''), 'FB(?:MF|BD|DV)/[^;\\]]*', ''), _bots), 'Bool') AS is_bot,
    multiIf(
        match(_agent, 'FBA[NV]/|FB_IAB/'), 'Facebook',
        match(_agent, 'Instagram '), 'Instagram',
        match(_agent, 'musical_ly|BytedanceWebview|TikTok|trill_'), 'TikTok',
        match(_agent, 'Snapchat'), 'Snapchat',
        match(_agent, 'Pinterest'), 'Pinterest',
        match(_agent, 'LinkedInApp'), 'LinkedIn',
        match(_agent, 'Twitter(?: for |Android)'), 'X',
        match(_agent, ' Line/'), 'LINE',
        match(_agent, 'MicroMessenger/'), 'WeChat',
        match(_agent, 'GSA/'), 'Google app',
        match(_agent, 'Edg(?:e|A|iOS)?/'), 'Edge',
        match(_agent, 'OPR/|OPT/|OPX/|OPiOS/|Opera'), 'Opera',
        match(_agent, 'SamsungBrowser/'), 'Samsung Internet',
        match(_agent, 'YaBrowser/|YaSearchBrowser/|YaApp_'), 'Yandex Browser',
        match(_agent, 'UC ?Browser|UCWEB'), 'UC Browser',
        match(_agent, 'Vivaldi/'), 'Vivaldi',
        match(_agent, 'DuckDuckGo/|Ddg/'), 'DuckDuckGo',
        match(_agent, 'HuaweiBrowser/'), 'Huawei Browser',
        match(_agent, 'MiuiBrowser/'), 'Mi Browser',
        match(_agent, 'QQBrowser/'), 'QQ Browser',
        match(_agent, 'Silk/'), 'Silk',
        match(_agent, 'Whale/'), 'Whale',
        match(_agent, 'Firefox|FxiOS/|Focus/|Klar/'), 'Firefox',
        match(_agent, 'MSIE |Trident/'), 'Internet Explorer',
        match(_agent, '; wv\\)'), 'Android WebView',
        match(_agent, 'Chrome/|CriOS/|Chromium/'), 'Chrome',
        match(_agent, '(?:Macintosh|iPhone|iPad|iPod).*Version/.*Safari/'), 'Safari',
        match(_agent, 'Android.*Version/.*Safari/'), 'Android Browser',
        match(_agent, '(?:iPhone|iPad|iPod).*AppleWebKit/'), 'iOS WebView',
        ''
    ) AS agent_browser,
    multiIf(
        match(_agent, 'Xbox'), 'Xbox',
        match(_agent, 'PlayStation'), 'PlayStation',
        match(_agent, 'Nintendo'), 'Nintendo',
        match(_agent, 'Windows Phone|IEMobile'), 'Windows Phone',
        match(_agent, 'AppleTV|Apple TV|tvOS'), 'tvOS',
        match(_agent, 'watchOS|Apple ?Watch'), 'watchOS',
        match(_agent, 'Tizen'), 'Tizen',
        match(_agent, '[wW]eb[0O]S|hpwOS|NetCast'), 'webOS',
        match(_agent, 'Roku'), 'Roku',
        match(_agent, 'KAIOS|KaiOS'), 'KaiOS',
        match(_agent, 'HarmonyOS|OpenHarmony|ArkWeb'), 'HarmonyOS',
        match(_agent, 'Macintosh|macOS|Darwin/[^ ]* \\(x86_64'), 'macOS',
        match(_agent, 'iPhone|iPad|iPod|iOS|CFNetwork/'), 'iOS',
        match(_agent, 'Android|Silk/|Dalvik/'), 'Android',
        match(_agent, 'Windows'), 'Windows',
        match(_agent, 'CrOS '), 'ChromeOS',
        match(_agent, 'Mac OS|Darwin/'), 'macOS',
        match(_agent, 'Linux|X11'), 'Linux',
        ''
    ) AS agent_system,
    {country} AS country
FROM events_unique
WHERE client_id != 'headrace-canary';

ALTER TABLE events_ready
    COMMENT COLUMN day 'when it happened, in the business''s time zone',
    COMMENT COLUMN is_bot 'the User-Agent is a bot''s, as far as its name says so',
    COMMENT COLUMN agent_browser 'browser or app by the User-Agent; empty: not known',
    COMMENT COLUMN agent_system 'operating system by the User-Agent; empty: not known',
    COMMENT COLUMN country 'by the address, ISO 3166 in two letters; empty: not known, or no networks were loaded';
