"""Names of pages and buttons in navigation bars, in the languages that prompts are in."""

from __future__ import annotations

ENGLISH = """
home|homepage|main page|next|previous|prev|up|top|back|contents|table of contents|toc|index|forward|next page
previous page|next topic|previous topic|next chapter|previous chapter|back to top|skip to content
skip to main content|skip to navigation|skip navigation|jump to navigation|jump to search|menu|main menu
toggle navigation|search|go|log in|login|sign in|sign up|log out|logout|register|subscribe|my account|account
cart|checkout|about|about us|contact|contact us|help|faq|sitemap|site map|privacy|privacy policy|terms
terms of use|terms of service|cookie policy|cookies|accept all|accept|accept cookies|reject all|imprint|legal
legal notice|news|blog|careers|jobs|press|donate|download|downloads|support|forum|forums|community|share|tweet
facebook|twitter|instagram|youtube|linkedin|github|rss|print|edit this page|show source|view source
view page source|this page|report a bug|modules|genindex|navigation|quick search|start
"""
GERMAN = """
startseite|zurück|weiter|nächste|vorherige|inhalt|inhaltsverzeichnis|suche|suchen|anmelden|registrieren
kontakt|impressum|datenschutz|hilfe|über uns
"""
FRENCH = """
accueil|suivant|précédent|sommaire|haut|recherche|rechercher|connexion|aide|mentions légales|plan du site
"""
SPANISH = """
inicio|siguiente|anterior|arriba|subir|índice|buscar|iniciar sesión|ayuda|contacto|aviso legal
"""
RUSSIAN = """
главная|далее|назад|вперёд|вверх|содержание|оглавление|поиск|войти|вход|регистрация|помощь|контакты|о нас
пред.|след.
"""
CHINESE = """
首页|首頁|主页|上一页|上一頁|下一页|下一頁|上页|下页|上一章|下一章|上一节|下一节|目录|目錄|返回|返回顶部|搜索
登录|登錄|注册|关于我们|联系我们|帮助|网站地图
"""
JAPANESE = """
ホーム|トップ|トップページ|戻る|前へ|次へ|前のページ|次のページ|前|次|目次|索引|検索|ログイン|お問い合わせ
サイトマップ|会員登録
"""
KOREAN = """
홈|처음|이전|다음|위로|목차|차례|색인|검색|로그인|회원가입|고객센터|사이트맵
"""
ARABIC = """
الرئيسية|التالي|السابق|الصفحة التالية|الصفحة السابقة|أعلى|المحتويات|الفهرس|بحث|تسجيل الدخول|اتصل بنا|من نحن
"""
NAVIGATION_WORDS = frozenset(
    word
    for words in (ENGLISH, GERMAN, FRENCH, SPANISH, RUSSIAN, CHINESE, JAPANESE, KOREAN, ARABIC)
    for line in words.split("\n")
    for word in line.split("|")
    if word
)
