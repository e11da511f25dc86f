"""A short text in each of nine languages, with the same eight facts: the story of a town's library."""

from __future__ import annotations

TEXTS: dict[str, str] = {
    "en": """The public library of Norwick was opened in March 1874 in a former granary beside the river.
Its first librarian, Edith Marlow, bought four hundred books with money that sailors had collected.
During the flood of 1911 the volunteers carried every volume to the church tower by lantern light.
The reading room was enlarged after the war, when a brewery gave up the neighbouring warehouse.
Children may borrow seven books at a time, while grown-up members may take twelve.
Since 1998 a travelling van has visited the outlying villages every second Thursday.
The oldest manuscript is a monastery cookbook with recipes for pickled herring and barley soup.
A new roof with solar panels was finished last autumn and lowers the heating bill by a third.""",
    "zh": """诺威克公共图书馆于一八七四年三月在河边的一座旧粮仓里开放。
第一任馆长伊迪丝用水手们募集的钱购买了四百本图书。
一九一一年发生洪水时，志愿者提着灯笼把每一册书都搬到了教堂的钟楼上。
战争结束以后，一家酿酒厂让出了隔壁的仓库，阅览室因此得到扩建。
儿童一次可以借阅七本书，成年会员可以借阅十二本。
从一九九八年起，流动书车每隔一周的星期四前往偏远的村庄。
馆里最古老的手稿是一本修道院食谱，记载着腌鲱鱼和大麦汤的做法。
去年秋天建成了装有太阳能板的新屋顶，取暖费用降低了三分之一。""",
    "ja": """ノーウィックの公共図書館は、一八七四年三月に川のほとりの古い穀物倉庫で開館しました。
初代の館長であるイーディスは、船乗りたちが集めた寄付金で四百冊の本を購入しました。
一九一一年の洪水のとき、ボランティアたちは提灯の明かりを頼りに、すべての本を教会の塔へ運び上げました。
戦後、隣の倉庫を醸造所が手放したので、閲覧室は広げられました。
子どもは一度に七冊まで借りることができ、大人の会員は十二冊まで借りることができます。
一九九八年からは、移動図書館の車が隔週の木曜日に遠くの村々を訪れています。
最も古い写本は修道院の料理書で、ニシンの酢漬けや大麦のスープの作り方が書かれています。
昨年の秋には太陽光パネルを備えた新しい屋根が完成し、暖房費は三分の一ほど下がりました。""",
    "ko": """노윅의 공공 도서관은 1874년 3월 강가의 오래된 곡물 창고에서 문을 열었습니다.
초대 사서였던 이디스는 선원들이 모은 성금으로 책 사백 권을 구입했습니다.
1911년 홍수가 났을 때 자원봉사자들은 등불을 들고 모든 책을 교회 종탑으로 옮겼습니다.
전쟁이 끝난 뒤 양조장이 옆 창고를 내놓으면서 열람실이 넓어졌습니다.
어린이는 한 번에 일곱 권까지 빌릴 수 있고 어른 회원은 열두 권까지 빌릴 수 있습니다.
1998년부터 이동 도서관 차량이 격주 목요일마다 외딴 마을들을 찾아갑니다.
가장 오래된 필사본은 수도원의 요리책으로 절인 청어와 보리 수프를 만드는 방법이 적혀 있습니다.
지난가을에는 태양광 판을 얹은 새 지붕이 완성되어 난방비가 삼분의 일 줄었습니다.""",
    "es": """La biblioteca pública de Norwick abrió sus puertas en marzo de 1874 en un antiguo granero junto al río.
Su primera bibliotecaria, Edith Marlow, compró cuatrocientos libros con el dinero que habían reunido los marineros.
Durante la inundación de 1911 los voluntarios llevaron todos los volúmenes a la torre de la iglesia a la luz de faroles.
La sala de lectura se amplió después de la guerra, cuando una cervecería cedió el almacén vecino.
Los niños pueden llevarse siete libros a la vez, mientras que los socios adultos pueden llevarse doce.
Desde 1998 una furgoneta recorre las aldeas apartadas un jueves de cada dos.
El manuscrito más antiguo es un recetario de monasterio con platos de arenque en vinagre y sopa de cebada.
El otoño pasado se terminó un tejado nuevo con placas solares que reduce en un tercio el gasto de calefacción.""",
    "fr": """La bibliothèque publique de Norwick a ouvert en mars 1874 dans un ancien grenier au bord de la rivière.
Sa première bibliothécaire, Edith Marlow, acheta quatre cents livres avec l’argent que les marins avaient réuni.
Pendant l’inondation de 1911, les bénévoles portèrent tous les volumes dans le clocher à la lueur des lanternes.
La salle de lecture fut agrandie après la guerre, lorsqu’une brasserie céda l’entrepôt voisin.
Les enfants peuvent emprunter sept livres à la fois, tandis que les membres adultes peuvent en prendre douze.
Depuis 1998, une camionnette se rend dans les villages isolés un jeudi sur deux.
Le manuscrit le plus ancien est un livre de cuisine monastique avec des recettes de hareng mariné et de soupe d’orge.
Un nouveau toit avec des panneaux solaires, achevé l’automne dernier, réduit d’un tiers la facture de chauffage.""",
    "de": """Die öffentliche Bibliothek von Norwick wurde im März 1874 in einem alten Kornspeicher am Fluss eröffnet.
Ihre erste Bibliothekarin, Edith Marlow, kaufte vierhundert Bücher von dem Geld, das Seeleute gesammelt hatten.
Während der Überschwemmung von 1911 trugen die Freiwilligen alle Bände bei Laternenlicht in den Kirchturm.
Der Lesesaal wurde nach dem Krieg vergrößert, als eine Brauerei das benachbarte Lagerhaus aufgab.
Kinder dürfen sieben Bücher auf einmal ausleihen, während erwachsene Mitglieder zwölf mitnehmen dürfen.
Seit 1998 besucht ein Bücherbus an jedem zweiten Donnerstag die abgelegenen Dörfer.
Die älteste Handschrift ist ein Kochbuch aus einem Kloster mit Rezepten für eingelegten Hering und Graupensuppe.
Ein neues Dach mit Solarzellen wurde im vergangenen Herbst fertig und senkt die Heizkosten um ein Drittel.""",
    "ru": """Публичная библиотека Норвика открылась в марте 1874 года в бывшем зернохранилище на берегу реки.
Её первая хранительница Эдит Марлоу купила четыреста книг на деньги, которые собрали моряки.
Во время наводнения 1911 года добровольцы при свете фонарей перенесли все тома на церковную колокольню.
Читальный зал расширили после войны, когда пивоварня освободила соседний склад.
Детям разрешается брать по семь книг сразу, а взрослым читателям можно взять двенадцать.
С 1998 года передвижная библиотека приезжает в отдалённые деревни каждый второй четверг.
Самая старая рукопись представляет собой монастырскую поваренную книгу с рецептами маринованной сельди и ячменного супа.
Новую крышу с солнечными панелями закончили прошлой осенью, и расходы на отопление снизились на треть.""",
    "ar": """افتُتحت المكتبة العامة في نورويك في مارس عام 1874 داخل مخزن حبوب قديم بجانب النهر.
اشترت أمينة المكتبة الأولى إديث مارلو أربعمئة كتاب بالمال الذي جمعه البحارة.
خلال فيضان عام 1911 حمل المتطوعون جميع المجلدات إلى برج الكنيسة على ضوء الفوانيس.
جرى توسيع قاعة القراءة بعد الحرب عندما تخلى مصنع مجاور عن مستودعه.
يستطيع الأطفال استعارة سبعة كتب في المرة الواحدة بينما يستطيع الأعضاء البالغون استعارة اثني عشر كتابا.
منذ عام 1998 تزور حافلة متنقلة القرى البعيدة كل أسبوعين يوم الخميس.
أقدم مخطوطة هي كتاب طبخ من أحد الأديرة فيه وصفات للسمك المخلل وحساء الشعير.
اكتمل في الخريف الماضي سقف جديد مزود بألواح شمسية فانخفضت تكاليف التدفئة بمقدار الثلث.""",
}
"""ISO 639-1 code -> text of one sentence a line."""
